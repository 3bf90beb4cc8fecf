"""How much one worker process takes on, and what of: read once from `HOLDFAST_WORKER_*`.

Every number here is measured on two cores. One process makes use of little more than one: a bigger machine runs
more of them (`processes`), each with these numbers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, ValidationError

from holdfast.durations import Duration
from holdfast.wire import Strict
from holdfast_workers.settings import SettingsError
from holdfast_workers.sweeping import DEFAULT_EVERY

Role = Literal["sessions", "model", "tools"]
"""What a process serves. `sessions`: the workflows and the short activities around them, and whatever of the other
two has no queue of its own."""
ROLES: tuple[Role, ...] = get_args(Role)
CORES_PER_PROCESS = 2
"""One for the process itself, one for the servers and tools it keeps busy."""


def _listed(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


class WorkerSettings(Strict):
    """How much one worker process takes on."""

    serves: Annotated[tuple[Role, ...], BeforeValidator(_listed)] = Field(default=ROLES, min_length=1)
    cached_sessions: int = Field(default=200, ge=0)
    """Sessions kept in memory; others are replayed when spoken to: 2,000 that wait take 68 MB (docs/scale.md)."""
    activities: int = Field(default=100, ge=1)
    """At the same time on the sessions' queue: all of them, where `[queues]` names no other."""
    model_calls: int = Field(default=100, ge=1)
    """At the same time on the model's own queue."""
    tool_calls: int = Field(default=100, ge=1)
    """At the same time on the tools' own queue."""
    processes: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    """`auto`: one for each two cores that this process may use."""
    sticky_timeout: timedelta = timedelta(seconds=1)
    """After a worker's crash its sessions answer again in 1.4 s; the SDK's default makes it 10."""
    heartbeat_throttle: timedelta = timedelta(milliseconds=500)
    """An interrupt arrives in 0.3 s; the SDK's default makes it 20."""
    grace: Duration | None = None
    """How long what runs may finish after SIGTERM, before its claims are released: a model call that is cut off is
    asked again by another worker, and paid twice. None: the longest model call or tool that the process serves."""
    sweep_every: Duration = DEFAULT_EVERY
    """How often sagas are looked for whose workflow died."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **flags: Any) -> Self:
        """What `HOLDFAST_WORKER_*` says, the defaults for the rest; `flags` win where they are not None.

        Raises `SettingsError` naming the variable.
        """
        given: dict[str, Any] = {name: environ[each] for name, each in VARIABLES.items() if environ.get(each)}
        given |= {name: value for name, value in flags.items() if value is not None}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            raise SettingsError(f"`{VARIABLES[name]}` cannot be {given[name]!r}: {first['msg']}.") from error

    def at_once(self, role: Role) -> int:
        """Activities at the same time on the queue of this role."""
        limits: dict[Role, int] = {
            "sessions": self.activities,
            "model": self.model_calls,
            "tools": self.tool_calls,
        }
        return limits[role]

    @property
    def process_count(self) -> int:
        """`processes` as a number on this machine."""
        if self.processes != "auto":
            return self.processes
        return max(1, _cores() // CORES_PER_PROCESS)


VARIABLES = {
    "serves": "HOLDFAST_WORKER_SERVES",
    "cached_sessions": "HOLDFAST_WORKER_CACHED_SESSIONS",
    "activities": "HOLDFAST_WORKER_ACTIVITIES",
    "model_calls": "HOLDFAST_WORKER_MODEL_CALLS",
    "tool_calls": "HOLDFAST_WORKER_TOOL_CALLS",
    "processes": "HOLDFAST_WORKER_PROCESSES",
    "grace": "HOLDFAST_WORKER_GRACE",
    "sweep_every": "HOLDFAST_WORKER_SWEEP_EVERY",
}


def _cores() -> int:
    """Those this process may use. A container's CPU quota is not among what the kernel tells here."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
