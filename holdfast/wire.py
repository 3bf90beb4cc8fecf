"""The base of every model that crosses a process.

Unknown fields are ignored, so that a rolled-back worker reads newer payloads; new fields have defaults.
Settings and TOML models are `Strict` instead: a misspelt key must not pass silently.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
