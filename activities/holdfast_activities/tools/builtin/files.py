"""Reading the workspace: list, read and search. None of them follows a path out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field

from holdfast.errors import ToolRefused
from holdfast.tools import ToolContext, tool
from holdfast_activities.resources import resources
from holdfast_activities.tools.builtin.workspace import Workspace, read_at

MAX_ENTRIES = 1000
MAX_READ_BYTES = 10_000_000
MAX_SEARCHED_BYTES = 2_000_000
MAX_LINE = 300
MADE_BY_PROGRAMS = frozenset({"__pycache__", "node_modules"})

WorkspacePath = Annotated[
    str, Field(min_length=1, max_length=1000, description='Path relative to the workspace, e.g. "notes/plan.md".')
]
Directory = Annotated[
    str, Field(max_length=1000, description='Directory relative to the workspace, e.g. "notes"; "." is all of it.')
]
Glob = Annotated[str, Field(max_length=200, description='Names to include, e.g. "*.md".')]


@tool(timeout="20s")
def list_files(ctx: ToolContext, path: Directory = ".", glob: Glob = "*") -> list[str]:
    """List the files below a directory of the workspace, one path each with its size in bytes, at most 1000.

    Use it to find out what is there before reading. It does not read contents: `search_files` does.
    Directories such as `.git`, `.venv` or `node_modules` are left out, unless `path` is in one.
    """
    found: list[str] = []
    for name, size, _ in _files(workspace_of(ctx), path, glob):
        if len(found) == MAX_ENTRIES:
            return [*found, f"… more than {MAX_ENTRIES} files; narrow `path` or `glob`"]
        found.append(f"{name} ({size} bytes)")
        ctx.heartbeat()
    return found


@tool(timeout="20s")
def read_file(
    ctx: ToolContext,
    path: WorkspacePath,
    first_line: Annotated[int, Field(ge=1, description="Line to start at, e.g. 1.")] = 1,
    lines: Annotated[int, Field(ge=1, le=5000, description="How many lines to read, e.g. 200.")] = 2000,
) -> str:
    """Read a text file of the workspace, from a line on.

    Use it on a path that `list_files` or `search_files` named. Binary files are refused.
    """
    text = text_of(path, workspace_of(ctx).read(path, limit=MAX_READ_BYTES + 1))
    part = text.splitlines(keepends=True)[first_line - 1 : first_line - 1 + lines]
    if not part and first_line > 1:
        raise ToolRefused(f"`{path}` has {len(text.splitlines())} lines; line {first_line} is beyond its end")
    return "".join(part)


@tool(timeout="30s")
def search_files(
    ctx: ToolContext,
    text: Annotated[str, Field(min_length=1, max_length=500, description='Plain text, e.g. "TODO"; no pattern.')],
    path: Directory = ".",
    glob: Glob = "*",
    ignore_case: Annotated[bool, Field(description="Also match other upper and lower case.")] = False,
    limit: Annotated[int, Field(ge=1, le=500, description="Most matches to give.")] = 100,
) -> list[str]:
    """Find lines that contain a text in the workspace's files, as `path:line: content`.

    Use it to find where something is said. It matches plain text, not a pattern. Files above 2 MB are skipped, and
    so are directories such as `.git`, `.venv` or `node_modules`, unless `path` is in one.
    """
    wanted = text.casefold() if ignore_case else text
    matches: list[str] = []
    for name, content in _searchable(workspace_of(ctx), path, glob):
        ctx.heartbeat()
        for number, line in enumerate(content.splitlines(), start=1):
            if wanted not in (line.casefold() if ignore_case else line):
                continue
            if len(matches) == limit:
                return [*matches, f"… more than {limit} matches; narrow the search"]
            matches.append(f"{name}:{number}: {line.strip()[:MAX_LINE]}")
    return matches


def workspace_of(ctx: ToolContext) -> Workspace:
    return Workspace(resources(ctx).workspace)


def text_of(path: str, content: bytes) -> str:
    """Raises ToolRefused for what is no text, or too long to read."""
    if len(content) > MAX_READ_BYTES:
        raise ToolRefused(f"`{path}` is longer than {MAX_READ_BYTES // 1_000_000} MB; search it instead")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ToolRefused(f"`{path}` is no UTF-8 text") from error


def _searchable(workspace: Workspace, path: str, glob: str) -> Iterator[tuple[str, str]]:
    for name, size, directory in _files(workspace, path, glob):
        if size > MAX_SEARCHED_BYTES:
            continue
        try:
            yield name, read_at(directory, os.path.basename(name)).decode("utf-8")
        except (UnicodeDecodeError, OSError, ToolRefused):
            continue  # binary, or gone or swapped since it was listed


def _of_interest(directory: str) -> bool:
    """Whether people put files there, rather than programs: a project's root holds ten thousands of the others."""
    return not directory.startswith(".") and directory not in MADE_BY_PROGRAMS


def _files(workspace: Workspace, path: str, glob: str) -> Iterator[tuple[str, int, int]]:
    """Yield (path from the workspace's root, size, open directory) of plain files; links are no files here."""
    prefix = "" if path in ("", ".") else path.strip("/").removeprefix("./") + "/"
    with workspace.open_directory(path) as top:
        for directory, subdirectories, names, descriptor in os.fwalk(".", dir_fd=top, follow_symlinks=False):
            subdirectories[:] = sorted(name for name in subdirectories if _of_interest(name))
            inside = prefix + ("" if directory == "." else directory.removeprefix("./") + "/")
            for name in sorted(names):
                if not (fnmatchcase(name, glob) or fnmatchcase(inside + name, glob)):
                    continue
                try:
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield inside + name, status.st_size, descriptor
