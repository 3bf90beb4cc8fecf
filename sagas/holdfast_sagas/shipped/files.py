"""`files.apply_changes`: a set of edits of the workspace that lands whole or not at all."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from holdfast_sagas.body import Saga
from holdfast_sagas.declaring import saga


class Write(BaseModel):
    """A whole new content; what was there is replaced."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["write"] = "write"
    path: str
    content: str


class Edit(BaseModel):
    """One passage replaced; `old` must occur exactly once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["edit"] = "edit"
    path: str
    old: str
    new: str


class Changes(BaseModel):
    """In the order in which they are made: a later edit may build on an earlier one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    changes: tuple[Write | Edit, ...] = Field(min_length=1, max_length=200)


class Applied(BaseModel):
    """The files that changed, each once, with the SHA-256 of what they hold now."""

    files: dict[str, str]


@saga("files.apply_changes", "1", steps=("write_file", "edit_file"))
async def apply_changes(s: Saga, wanted: Changes) -> Applied:
    """Apply a set of edits to the workspace, whole or not at all."""
    files: dict[str, str] = {}
    for number, change in enumerate(wanted.changes, start=1):
        name = f"change-{number}"
        if isinstance(change, Write):
            done = await s.step(name, "write_file", path=change.path, content=change.content)
        else:
            done = await s.step(name, "edit_file", path=change.path, old=change.old, new=change.new)
        files[done["path"]] = done["sha256"]
    return Applied(files=files)
