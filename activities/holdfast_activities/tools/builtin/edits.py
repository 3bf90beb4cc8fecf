"""Writing the workspace, undoably: a file's earlier content is kept under the call's key before the new one stands.

The kept content is also what makes these tools `Idempotent` in earnest: an attempt that finds it knows what the
file was before the first one. When the file has become something else meanwhile, nobody can tell whether the first
attempt landed, and the tool says so instead of overwriting a newer edit.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from holdfast.errors import ToolRefused
from holdfast.recovery import Idempotent, Never
from holdfast.tools import ToolContext, tool
from holdfast_activities.tools.builtin.files import MAX_READ_BYTES, WorkspacePath, text_of, workspace_of
from holdfast_activities.tools.builtin.workspace import Entry, OutcomeInDoubt, Workspace, read_at, write_at

KEPT_FOR = Idempotent(key_ttl="30d")
ABSENT = b"-"
PRESENT = b"+"
"""First byte of a kept content: whether there was a file at all."""

Content = Annotated[str, Field(max_length=2_000_000, description="The whole new content.")]
Kept = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="`kept` of the write's result.")]
Written = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="`sha256` of the write's result.")]


def _restore_arguments(arguments: dict[str, Any], result: Any) -> dict[str, Any]:
    return {"path": arguments["path"], "kept": result["kept"], "written": result["sha256"]}


@tool(tier="irreversible", recovery=KEPT_FOR, undo=Never("it undoes a write itself; write the file again instead"))
def restore_file(ctx: ToolContext, path: WorkspacePath, kept: Kept, written: Written) -> dict[str, Any]:
    """Put a file back to what it was before one `write_file` or `edit_file`; a file made by it is removed.

    It is refused when the file was changed again since.
    """
    workspace = workspace_of(ctx)
    earlier = _kept(workspace, kept)
    if earlier is None:
        raise ToolRefused("the earlier content is not kept any more")
    before = earlier[1:] if earlier.startswith(PRESENT) else None
    with workspace.locked(), workspace.locate(path) as entry:
        current = _current(entry)
        if current == before:
            return {"path": path, "restored": True}  # already undone
        if current is None or _sha256(current) != written:
            raise ToolRefused(f"`{path}` was changed since; its earlier content was not put back")
        if before is None:
            os.unlink(entry.name, dir_fd=entry.directory)
        else:
            _put(entry, before, ctx.idempotency_key)
    return {"path": path, "restored": True}


@tool(tier="reversible", recovery=KEPT_FOR, undo=restore_file, undo_args=_restore_arguments)
def write_file(ctx: ToolContext, path: WorkspacePath, content: Content) -> dict[str, Any]:
    """Write a whole text file of the workspace, replacing what was there; directories are made as needed.

    Use it for new files and full rewrites. To change a part of a file use `edit_file`.
    """
    return _replace(ctx, path, lambda _: content.encode("utf-8", "surrogatepass"), make_parents=True)


@tool(tier="reversible", recovery=KEPT_FOR, undo=restore_file, undo_args=_restore_arguments)
def edit_file(
    ctx: ToolContext,
    path: WorkspacePath,
    old: Annotated[
        str, Field(min_length=1, max_length=100_000, description="Text to replace, exactly as it stands.")
    ],
    new: Annotated[str, Field(max_length=100_000, description="Text to put in its place.")],
) -> dict[str, Any]:
    """Replace one passage of a text file of the workspace.

    `old` must occur exactly once: include enough of its surroundings, and read the file first.
    """

    def edited(before: bytes | None) -> bytes:
        if before is None:
            raise ToolRefused(f"there is no `{path}` in the workspace")
        text = text_of(path, before)
        if (times := text.count(old)) != 1:
            raise ToolRefused(f"`old` occurs {times} times in `{path}`; it must occur exactly once")
        return text.replace(old, new).encode("utf-8")

    return _replace(ctx, path, edited, make_parents=False)


def _replace(
    ctx: ToolContext, path: str, make: Callable[[bytes | None], bytes], *, make_parents: bool
) -> dict[str, Any]:
    workspace = workspace_of(ctx)
    key = ctx.idempotency_key
    with workspace.locked(), workspace.locate(path, make_parents=make_parents) as entry:
        earlier = _kept(workspace, key)
        current = _current(entry)
        before = current if earlier is None else (earlier[1:] if earlier.startswith(PRESENT) else None)
        content = make(before)
        if earlier is None:
            _keep(workspace, key, ABSENT if before is None else PRESENT + before)
        elif current not in (before, content):
            raise OutcomeInDoubt(f"`{path}` was changed by somebody else while this write was under way")
        if current != content:
            _put(entry, content, key)
    return {"path": path, "bytes": len(content), "created": before is None, "sha256": _sha256(content), "kept": key}


def _current(entry: Entry) -> bytes | None:
    try:
        content = read_at(entry.directory, entry.name, limit=MAX_READ_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(content) > MAX_READ_BYTES:
        raise ToolRefused(f"`{entry.name}` is too long to be kept for undo, so it is not replaced")
    return content


def _put(entry: Entry, content: bytes, key: str) -> None:
    try:
        mode = stat.S_IMODE(os.stat(entry.name, dir_fd=entry.directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        mode = 0o644
    write_at(entry.directory, entry.name, content, scratch=f".{key[:32]}.holdfast", mode=mode)


def _kept(workspace: Workspace, key: str) -> bytes | None:
    with workspace.private() as directory, contextlib.suppress(FileNotFoundError):
        return read_at(directory, key)
    return None


def _keep(workspace: Workspace, key: str, content: bytes) -> None:
    with workspace.private() as directory:
        write_at(directory, key, content, scratch=f"{key}.new", mode=0o600)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
