"""What one embedded stack is to run: decided by the composition root, carried out by the supervisor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from holdfast_workers.stack.ports import LOOPBACK
from holdfast_workers.stack.probes import http_probe
from holdfast_workers.stack.processes import ProcessSpec
from holdfast_workers.stack.runtime import Addresses

Migrate = Callable[[Addresses], Awaitable[object]]
Workers = Callable[[Addresses], Sequence[ProcessSpec]]


@dataclass(frozen=True, kw_only=True)
class Service:
    """An HTTP service beside the workers, such as the scripted model. `{port}` in `argv` is replaced."""

    name: str
    argv: tuple[str, ...]
    preferred_port: int
    health_path: str = "/healthz"
    env: Mapping[str, str] = field(default_factory=dict)

    def url(self, port: int) -> str:
        """Its base URL on `port`."""
        return f"http://{LOOPBACK}:{port}"

    def spec(self, port: int) -> ProcessSpec:
        """Its process on `port`."""
        return ProcessSpec(
            name=self.name,
            argv=tuple(part.replace("{port}", str(port)) for part in self.argv),
            env=self.env,
            ready=http_probe(self.url(port) + self.health_path),
        )


@dataclass(frozen=True, kw_only=True)
class StackPlan:
    """One stack: its home, its parts, and what to do with the database before the workers start.

    `migrate` is called with both servers up and must leave the group roles of `logins` behind; `workers`
    with every address known. Services start beside the servers, before the migrations.
    """

    home: Path
    migrate: Migrate
    workers: Workers
    services: Sequence[Service] = ()
    temporal_binary: Path | None = None  # None: the packaged one
    temporal_port: int | None = None  # None: the one of the last run, else 7233, else any free one
