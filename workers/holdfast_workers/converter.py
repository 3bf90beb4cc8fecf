"""The payload converter every Holdfast client and worker uses: the SDK's own for pydantic models.

`holdfast.wire.Wire` keeps defaults out of history by itself, so a client with the stock converter works as well.
One converter serves the whole process: a new one would build each type's adapter again, which costs more than
the conversions themselves.
"""

from __future__ import annotations

from temporalio.contrib.pydantic import pydantic_data_converter as data_converter

__all__ = ["data_converter"]
