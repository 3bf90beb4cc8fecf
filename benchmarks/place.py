"""Where a benchmark runs: the stack as `holdfast up` starts it, a worker of each kind, and the model they ask.

Each worker is a process of its own, so that its CPU time is its own. Holdfast's is `holdfast worker start`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from holdfast_workers.embedded import Embedded, migrate
from holdfast_workers.settings import ModelSettings, Settings, TemporalSettings
from holdfast_workers.stack.plan import Service, StackPlan
from holdfast_workers.stack.ports import LOOPBACK, free_port
from holdfast_workers.stack.probes import http_probe
from holdfast_workers.stack.processes import ProcessSpec
from holdfast_workers.stack.runtime import Addresses, Runtime
from holdfast_workers.stack.supervisor import Supervisor

QUEUES = {"bare": "bench-bare", "holdfast": "bench-holdfast"}
CONFIG = """
[agents.default]
model = "scripted"
system = "You look at things."
tools = ["benchmarks.tools:look"]

[agents.default.limits]
turns = 1000000
calls = 1000000

[agents.inline]
model = "scripted"
system = "You look at things."
tools = ["benchmarks.tools:quick_look"]

[agents.inline.limits]
turns = 1000000
calls = 1000000

[agents.window]
model = "scripted"
system = "You look at things."
tools = ["benchmarks.tools:look"]
memory = { strategy = "window", above = 20000, down_to = 10000 }

[agents.window.limits]
turns = 1000000
calls = 1000000
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """`pids` are those of the two workers, by the name of what they run."""

    home: Path
    addresses: Addresses
    pids: Mapping[str, int]

    def settings(self, task_queue: str) -> Settings:
        return Settings(
            home=self.home,
            config=self.home / "holdfast.toml",
            dsn=self.addresses.app_dsn,
            task_queue=task_queue,
            temporal=TemporalSettings(
                address=self.addresses.temporal, namespace=self.addresses.namespace, embedded=True
            ),
            model=ModelSettings(provider="gateway", base_url=self.addresses.model, scripted=True),
        )


@asynccontextmanager
async def stack(home: Path) -> AsyncIterator[Place]:
    """Start everything in an empty `home`, and stop it after the block. Raises `StackError`."""
    plan = StackPlan(
        home=home, migrate=migrate, services=(model_service(),), workers=lambda addresses: workers(home, addresses)
    )
    async with supervised(plan) as runtime:
        pids = {each.name.removesuffix("-worker"): each.pid for each in runtime.processes}
        yield Place(home=home, addresses=runtime.addresses, pids={name: pids[name] for name in QUEUES})


@asynccontextmanager
async def supervised(plan: StackPlan) -> AsyncIterator[Runtime]:
    """What the plan starts, for the length of the block. Raises `StackError`."""
    supervisor = Supervisor(plan)
    ready: asyncio.Future[Runtime] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(supervisor.run(ready.set_result))
    try:
        await asyncio.wait((running, ready), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
            raise KeyboardInterrupt  # a signal came before the stack was up
        yield ready.result()
    finally:
        supervisor.ask_to_stop()
        await asyncio.wait((running,))


def model_service() -> Service:
    argv = (sys.executable, "-m", "benchmarks.model", "--port", "{port}")
    return Service(name="model", argv=argv, preferred_port=8797)


def workers(home: Path, addresses: Addresses) -> list[ProcessSpec]:
    """One worker of each kind, the first serving the bare loop."""
    config = home / "holdfast.toml"
    config.write_text(CONFIG)
    port = free_port()
    bare = ProcessSpec(
        name="bare-worker",
        argv=(
            *(sys.executable, "-m", "benchmarks.bare_worker"),
            *("--temporal", addresses.temporal, "--model", str(addresses.model)),
            *("--task-queue", QUEUES["bare"], "--health-port", str(port)),
        ),
        ready=http_probe(f"http://{LOOPBACK}:{port}/healthz"),
    )
    chosen = Embedded(home=home, config=config, task_queue=QUEUES["holdfast"], model=ModelSettings())
    own = chosen.worker_spec(1, addresses, os.environ)
    return [bare, ProcessSpec(**{**vars(own), "name": "holdfast-worker"})]
