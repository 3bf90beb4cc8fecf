"""Faults on demand: the next requests to a path fail, stall or lose their connection.

A fault named `*_before` strikes before anything is carried out, `*_after` when the effect is committed and
only its answer is still to come. Faults live in memory: a restarted process is healthy.
"""

from fnmatch import fnmatchcase
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal[
    "fail_500",  # answers 500, nothing carried out
    "fail_before",  # answers 503 with Retry-After, nothing carried out
    "fail_after",  # carried out, then answers 500
    "stall_before",  # waits, then carries out, even if the caller has gone
    "stall_after",  # carries out, then waits before it answers
    "drop_before",  # cuts the connection, nothing carried out
    "drop_after",  # carries out, then cuts the connection
    "refuse_402",  # answers 402, for good under this key
]


class Fault(BaseModel):
    """One fault: which paths (a glob, `*` also matches `/`), what happens, how long and how often."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    kind: Kind
    method: Literal["GET", "POST"] | None = None
    key: str | None = None
    """Only requests with this idempotency key."""
    seconds: float = Field(default=3.0, ge=0, le=600)
    times: int = Field(default=1, ge=1)


class Faults:
    """The faults still to come, oldest first."""

    def __init__(self) -> None:
        self._pending: list[Fault] = []

    def add(self, faults: list[Fault]) -> None:
        self._pending.extend(faults)

    def clear(self) -> None:
        self._pending.clear()

    def pending(self) -> list[Fault]:
        return list(self._pending)

    def take(self, method: str, path: str, key: str | None) -> Fault | None:
        """The first fault for this request, used up by one."""
        for position, fault in enumerate(self._pending):
            meant = fault.method in (None, method) and fault.key in (None, key)
            if meant and fnmatchcase(path, fault.path):
                if fault.times == 1:
                    del self._pending[position]
                else:
                    self._pending[position] = fault.model_copy(update={"times": fault.times - 1})
                return fault
        return None
