"""A worker process: connect, serve sessions until told to stop, finish what was dispatched.

Every number here is measured on two cores. One process makes use of little more than one: a bigger machine runs
more of them, and sets its own numbers through `HOLDFAST_WORKER_*`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from typing import Self

from pydantic import Field, ValidationError
from temporalio.client import Client
from temporalio.worker import Worker

from holdfast.durations import Duration
from holdfast.wire import Strict
from holdfast_activities.faults import FaultPoints, no_faults
from holdfast_workers.health import serve_health
from holdfast_workers.plugin import HoldfastPlugin
from holdfast_workers.settings import Settings, SettingsError
from holdfast_workers.sweeping import DEFAULT_EVERY
from holdfast_workers.telemetry.worker import open_telemetry
from holdfast_workers.temporal import connect_temporal, logging_runtime


class WorkerSettings(Strict):
    """How much one worker process takes on."""

    cached_sessions: int = Field(default=200, ge=0)
    """Idle sessions kept in memory: 2,000 of them in 46 MB instead of 197 at the SDK's default."""
    activities: int = Field(default=100, ge=1)
    sticky_timeout: timedelta = timedelta(seconds=1)
    """After a worker's crash its sessions answer again in 1.4 s; the SDK's default makes it 10."""
    heartbeat_throttle: timedelta = timedelta(milliseconds=500)
    """An interrupt arrives in 0.3 s; the SDK's default makes it 20."""
    grace: Duration = timedelta(seconds=30)
    """How long running activities may finish after SIGTERM; at least the longest tool. A longer model call is asked
    again by another worker, and paid twice."""
    sweep_every: Duration = DEFAULT_EVERY
    """How often sagas are looked for whose workflow died."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """What `HOLDFAST_WORKER_*` says, the defaults for the rest. Raises `SettingsError` naming the variable."""
        given = {name: environ[variable] for name, variable in VARIABLES.items() if environ.get(variable)}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            variable = VARIABLES[str(first["loc"][0])]
            raise SettingsError(f"`{variable}` cannot be {first['input']!r}: {first['msg']}.") from error


VARIABLES = {
    "cached_sessions": "HOLDFAST_WORKER_CACHED_SESSIONS",
    "activities": "HOLDFAST_WORKER_ACTIVITIES",
    "grace": "HOLDFAST_WORKER_GRACE",
    "sweep_every": "HOLDFAST_WORKER_SWEEP_EVERY",
}


def build_worker(client: Client, *, task_queue: str, settings: WorkerSettings | None = None) -> Worker:
    """A worker of a client that has the `HoldfastPlugin`, as production and tests run it."""
    settings = settings or WorkerSettings()
    return Worker(
        client,
        task_queue=task_queue,
        max_cached_workflows=settings.cached_sessions,
        max_concurrent_activities=settings.activities,
        sticky_queue_schedule_to_start_timeout=settings.sticky_timeout,
        max_heartbeat_throttle_interval=settings.heartbeat_throttle,
        default_heartbeat_throttle_interval=settings.heartbeat_throttle,
        graceful_shutdown_timeout=settings.grace,
    )


async def run(
    settings: Settings,
    *,
    health_port: int | None = None,
    worker_settings: WorkerSettings | None = None,
    faults: FaultPoints = no_faults,
) -> None:
    """Serve sessions until SIGTERM or SIGINT; then finish what was dispatched.

    Raises:
        TemporalUnavailable, LedgerUnavailable: a server cannot be reached at start.
        NamespaceMissing: Temporal has no such namespace.
        SchemaMismatch, WrongTemporal: Postgres belongs to another version or another Temporal.
        ConfigError, DeclarationError: an agent or tool of the configuration cannot be used.
    """
    telemetry = open_telemetry(os.environ, provider=settings.model.provider)
    sweep_every = (worker_settings or WorkerSettings()).sweep_every
    plugin = HoldfastPlugin(settings, telemetry=telemetry, faults=faults, sweep_every=sweep_every)
    async with AsyncExitStack() as until_stopped:
        until_stopped.callback(telemetry.close)
        runtime = telemetry.runtime or logging_runtime()
        client = await connect_temporal(settings.temporal, plugins=[plugin], runtime=runtime)
        worker = build_worker(client, task_queue=settings.task_queue, settings=worker_settings)
        if health_port is not None:
            await until_stopped.enter_async_context(serve_health(health_port, lambda: worker.is_running))
        stopped = until_stopped.enter_context(_stop_signals())
        serving = asyncio.create_task(worker.run())
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not serving.done():
            await worker.shutdown()
        await serving


@contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stopped.set)
    try:
        yield stopped
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
