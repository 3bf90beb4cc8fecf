"""A directory tree that no path leaves: not by `..`, not by an absolute path, not by a symlink, not by a race.

Every name is opened relative to the open directory above it and never through a symlink, so that swapping a
directory for a link between check and use changes nothing. Links that stay inside are followed, step by step.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import ToolRefused

PRIVATE = ".holdfast"
"""Directory at the root of a workspace that keeps earlier contents for undo; tools do not show or open it."""
MAX_LINKS = 40
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: opening a pipe must not hang


class OutcomeInDoubt(Exception):
    """Nobody can tell whether the file was written."""


@dataclass(frozen=True)
class Entry:
    """A name within an open directory. The descriptor lives as long as the block that gave it."""

    directory: int
    name: str
    """`.` for the root itself."""


@dataclass(frozen=True)
class Workspace:
    root: Path

    @contextmanager
    def locate(self, path: str, *, make_parents: bool = False) -> Iterator[Entry]:
        """Open the directory that holds `path`, following only links that stay inside.

        Raises:
            ToolRefused: for a path that leaves the workspace, or whose directory does not exist.
        """
        walk = _Walk(self._open_root(), path)
        try:
            yield walk.to_entry(_parts(path), make_parents=make_parents)
        except OSError as error:
            raise _refusal(path, error) from error
        finally:
            walk.close()

    @contextmanager
    def open_directory(self, path: str) -> Iterator[int]:
        with self.locate(path) as entry:
            descriptor = os.open(entry.name, _DIRECTORY, dir_fd=entry.directory)
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    def read(self, path: str, *, limit: int | None = None) -> bytes:
        """The file's bytes, at most `limit`. Raises ToolRefused when there is no such plain file."""
        with self.locate(path) as entry:
            return read_at(entry.directory, entry.name, limit=limit)

    @contextmanager
    def private(self) -> Iterator[int]:
        """The open directory of kept contents, made when missing."""
        root = self._open_root()
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(PRIVATE, 0o700, dir_fd=root)
            descriptor = os.open(PRIVATE, _DIRECTORY, dir_fd=root)
            try:
                with contextlib.suppress(FileExistsError):  # a workspace is often a repository
                    ignore = os.open(".gitignore", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=descriptor)
                    with os.fdopen(ignore, "wb") as file:
                        file.write(b"*\n")
                yield descriptor
            finally:
                os.close(descriptor)
        finally:
            os.close(root)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time, in this process or another: parallel edits of one file must not lose each other."""
        with self.private() as directory:
            descriptor = os.open(
                "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory
            )
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)

    def _open_root(self) -> int:
        try:
            return os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ToolRefused(f"the workspace cannot be opened: {error.strerror}; tell the user") from error


class _Walk:
    """The open directories from the root down to where the walk stands."""

    def __init__(self, root: int, path: str) -> None:
        self._open = [root]
        self._path = path
        self._links = 0

    def close(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)

    def to_entry(self, parts: list[str], *, make_parents: bool) -> Entry:
        rest = parts[::-1]
        while rest:
            part = rest.pop()
            if part == "..":  # only a link's target can hold one
                self._up()
            elif (target := self._link(part)) is not None:
                rest.extend(_link_parts(target, self._path)[::-1])
            elif not rest:
                return Entry(self._open[-1], part)
            else:
                self._down(part, make=make_parents)
        return Entry(self._open[-1], ".")

    def _up(self) -> None:
        if len(self._open) == 1:
            raise _leaves(self._path)
        os.close(self._open.pop())

    def _link(self, part: str) -> str | None:
        try:
            target = os.readlink(part, dir_fd=self._open[-1])
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):  # no link, or nothing there
                return None
            raise
        self._links += 1
        if self._links > MAX_LINKS:
            raise ToolRefused(f"`{self._path}` goes through too many links")
        return target

    def _down(self, part: str, *, make: bool) -> None:
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=self._open[-1])
        self._open.append(os.open(part, _DIRECTORY, dir_fd=self._open[-1]))


def read_at(directory: int, name: str, *, limit: int | None = None) -> bytes:
    """Read a plain file of an open directory. Raises ToolRefused for anything but a plain file, else OSError."""
    descriptor = os.open(name, _FILE, dir_fd=directory)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ToolRefused(f"`{name}` is no plain file")
        return file.read() if limit is None else file.read(limit)


def write_at(directory: int, name: str, content: bytes, *, scratch: str, mode: int = 0o644) -> None:
    """Put a whole file in place at once: readers see the old content or the new one, never a half."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(scratch, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(scratch, flags, mode, dir_fd=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.replace(scratch, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(scratch, dir_fd=directory)
        raise
    try:
        os.fsync(directory)
    except OSError as error:
        raise OutcomeInDoubt(f"`{name}` was written, but the disk did not confirm it") from error


def _parts(path: str) -> list[str]:
    """Raises ToolRefused for a path that is not plainly below the root."""
    if "\0" in path:
        raise ToolRefused("a path holds no NUL character")
    if path.startswith("/"):
        raise ToolRefused(f"`{path}` is absolute; give a path relative to the workspace, e.g. `notes/plan.md`")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _leaves(path)
    if parts and parts[0] == PRIVATE:
        raise ToolRefused(f"`{PRIVATE}` keeps earlier contents for undo and is not for tools")
    return parts


def _link_parts(target: str, path: str) -> list[str]:
    if target.startswith("/"):
        raise _leaves(path)
    return [part for part in target.split("/") if part not in ("", ".")]


def _leaves(path: str) -> ToolRefused:
    return ToolRefused(f"`{path}` leaves the workspace; only paths inside it can be used")


def _refusal(path: str, error: OSError) -> ToolRefused:
    match error.errno:
        case errno.ENOENT:
            return ToolRefused(f"there is no `{path}` in the workspace")
        case errno.ENOTDIR:
            return ToolRefused(f"`{path}`: a part of it is no directory")
        case errno.EISDIR:
            return ToolRefused(f"`{path}` is a directory")
        case errno.ELOOP:
            return ToolRefused(f"`{path}` is a link where a file or directory was expected")
        case _:
            return ToolRefused(f"`{path}`: {error.strerror}")
