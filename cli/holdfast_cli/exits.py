"""Exit codes, and which error ends with which."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum


class Exit(IntEnum):
    """What a script may rely on."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    MISSING = 3
    UNREACHABLE = 4
    WAITING = 5
    HELD = 6
    INTERRUPTED = 130


MEANINGS: Mapping[Exit, str] = {
    Exit.DONE: "done",
    Exit.FAILED: "the session or a check failed",
    Exit.USAGE: "wrong usage, or the session refused the command; nothing changed",
    Exit.MISSING: "no such session, call, tool, agent or effect",
    Exit.UNREACHABLE: "cannot reach Temporal or Postgres",
    Exit.WAITING: "waits for a person (`run --until waiting`)",
    Exit.HELD: "held or stuck: an outcome is unknown, or a compensation failed for good",
    Exit.INTERRUPTED: "interrupted with Ctrl-C; a session that was followed goes on",
}

BY_CODE: Mapping[str, Exit] = {
    "not_found": Exit.MISSING,
    "unknown_call": Exit.MISSING,
    "transient": Exit.UNREACHABLE,
    "unavailable": Exit.UNREACHABLE,
    "internal": Exit.FAILED,
    "schema": Exit.FAILED,
    "wrong_temporal": Exit.FAILED,
}
"""By the stable code of a `HoldfastError`; every other code is a refusal of what was asked."""


class Failure(Exception):
    """A command's end that is not success, in words for the person at the terminal."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code


def exit_for(code: str) -> Exit:
    return BY_CODE.get(code, Exit.USAGE)
