"""The base of every model that crosses a process.

Unknown fields are ignored, so that a rolled-back worker reads newer payloads; new fields have defaults, and
a default never changes, since it is not written. Settings are `Strict` instead: a misspelt key must not pass
silently. What a person declares and a session keeps is `Declared`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

DISCRIMINATOR = "kind"


class Wire(BaseModel):
    """Frozen data for payloads and rows. Fields at their default are left out: history is paid by the byte."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_serializer(mode="wrap")
    def _leave_defaults_out(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        defaults = _defaults(type(self))
        return {
            name: value
            for name, value in handler(self).items()
            if name not in defaults or getattr(self, name) != defaults[name]
        }


@cache
def _defaults(model: type[BaseModel]) -> Mapping[str, Any]:
    """What may be left out of each model, found once: it is asked for with every payload."""
    fields = model.model_fields.items()
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in fields
        if name != DISCRIMINATOR and not field.is_required()
    }


class Declared(BaseModel):
    """Frozen data that a person writes in holdfast.toml and a session keeps in its catalogue and plan.

    Written whole, so that a default may change without changing open sessions. Read back as leniently as `Wire`; it
    is where the file is read that a misspelt key is forbidden (`holdfast_workers.config_file`).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
