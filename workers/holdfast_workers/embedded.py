"""What `holdfast up` runs on one machine: the composition of the embedded stack.

The stack's processes are told every address outright. Nothing meant for other servers, neither a variable nor a
profile in the user's Temporal configuration, reaches them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast_workers.checkpoints import own_checkpoint_key
from holdfast_workers.settings import ModelSettings
from holdfast_workers.stack.plan import Service, StackPlan
from holdfast_workers.stack.ports import LOOPBACK, free_port
from holdfast_workers.stack.probes import http_probe
from holdfast_workers.stack.processes import ProcessSpec
from holdfast_workers.stack.runtime import Addresses

MODEL_PORT = 8787
GRACE = "30s"
"""Of the stack's own workers. Ctrl-C is to end it soon: a model call that takes longer is asked again next time."""
WORKER_STOPS_WITHIN_S = 40.0
"""Longer than that."""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """What the person who starts a stack may choose."""

    home: Path
    config: Path | None = None
    task_queue: str
    model: ModelSettings
    scenarios: tuple[Path, ...] = ()
    """More scenarios for the scripted model, which plays the shipped ones anyway."""
    workers: int = 1
    temporal_port: int | None = None
    temporal_binary: Path | None = None

    @property
    def scripted(self) -> bool:
        return not self.model.configured

    def plan(self, environ: Mapping[str, str]) -> StackPlan:
        """The stack as the supervisor runs it. `environ` is what its processes would inherit."""
        return StackPlan(
            home=self.home,
            migrate=migrate,
            workers=lambda addresses: self.worker_specs(addresses, environ),
            services=(self.model_service(),) if self.scripted else (),
            temporal_port=self.temporal_port,
            temporal_binary=self.temporal_binary,
        )

    def model_service(self) -> Service:
        scenarios = ("--scenarios", *(str(path) for path in self.scenarios)) if self.scenarios else ()
        return Service(
            name="model",
            argv=(sys.executable, "-m", "holdfast_workers.scripted_model", "--port", "{port}", *scenarios),
            preferred_port=MODEL_PORT,
        )

    def worker_specs(self, addresses: Addresses, environ: Mapping[str, str]) -> Sequence[ProcessSpec]:
        return [self.worker_spec(number, addresses, environ) for number in range(1, self.workers + 1)]

    def worker_spec(self, number: int, addresses: Addresses, environ: Mapping[str, str]) -> ProcessSpec:
        port = free_port()
        return ProcessSpec(
            name=f"worker-{number}",
            argv=(sys.executable, "-m", "holdfast_cli", "worker", "start", "--health-port", str(port)),
            env=self.worker_environment(addresses, environ),
            cwd=self.config.parent if self.config else None,
            ready=http_probe(f"http://{LOOPBACK}:{port}/healthz"),
            stop_within_s=WORKER_STOPS_WITHIN_S,
        )

    def worker_environment(self, addresses: Addresses, environ: Mapping[str, str]) -> dict[str, str]:
        foreign = {name: "" for name in environ if name.startswith("TEMPORAL_") or name == "HOLDFAST_MIGRATE_DSN"}
        told = {
            "HOLDFAST_HOME": str(self.home),
            "HOLDFAST_DSN": addresses.app_dsn,
            "HOLDFAST_TASK_QUEUE": self.task_queue,
            "HOLDFAST_UI_URL": addresses.ui,
            "TEMPORAL_ADDRESS": addresses.temporal,
            "TEMPORAL_NAMESPACE": addresses.namespace,
            "TEMPORAL_CONFIG_FILE": "/dev/null",  # else a default profile's key and TLS would be used here
            "HOLDFAST_WORKER_GRACE": GRACE,
            "HOLDFAST_WORKER_SERVES": "",  # everything: nobody else does
            "HOLDFAST_WORKER_PROCESSES": "",
        }
        optional = {
            "HOLDFAST_CONFIG": str(self.config) if self.config else "",
            "HOLDFAST_SCRIPTED_MODEL": addresses.model or "",
            "HOLDFAST_CHECKPOINT_KEY": environ.get("HOLDFAST_CHECKPOINT_KEY") or str(own_checkpoint_key(self.home)),
        }
        return {**foreign, **optional, **told}


async def migrate(addresses: Addresses) -> None:
    """Bring the embedded database to this version's schema."""
    from holdfast_ledger.migrate import migrate as run_migrations

    await run_migrations(addresses.migrate_dsn)
