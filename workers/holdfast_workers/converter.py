"""The payload converter every Holdfast client and worker uses.

Defaults stay out of history, and one converter serves the whole process: a new one would build each type's
adapter again, which costs more than the conversions themselves.
"""

from __future__ import annotations

from temporalio.contrib.pydantic import PydanticPayloadConverter, ToJsonOptions
from temporalio.converter import DataConverter


class HoldfastPayloadConverter(PydanticPayloadConverter):
    """Pydantic models as JSON, with only the fields that were set."""

    def __init__(self) -> None:
        super().__init__(ToJsonOptions(exclude_unset=True))


data_converter = DataConverter(payload_converter_class=HoldfastPayloadConverter)
