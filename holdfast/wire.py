"""The base of every model that crosses a process.

Unknown fields are ignored, so that a rolled-back worker reads newer payloads; new fields have defaults, and
a default never changes, since it is not written. Settings and TOML models are `Strict` instead: a misspelt key
must not pass silently.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

DISCRIMINATOR = "kind"


class Wire(BaseModel):
    """Frozen data for payloads and rows. Fields at their default are left out: history is paid by the byte."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_serializer(mode="wrap")
    def _leave_defaults_out(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        return {
            name: value
            for name, value in handler(self).items()
            if name == DISCRIMINATOR
            or name not in fields
            or fields[name].is_required()
            or getattr(self, name) != fields[name].get_default(call_default_factory=True)
        }


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
