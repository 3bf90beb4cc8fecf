"""A worker process: connect, serve until told to stop, finish what runs, or hand it over when told again."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Interceptor, PollerBehaviorSimpleMaximum, Worker

from holdfast.contracts import MODEL_TIMEOUT, RECORD_MARGIN
from holdfast_activities.faults import FaultPoints, no_faults
from holdfast_workers.builds import Build, load_build
from holdfast_workers.capacity import VARIABLES, WorkerSettings
from holdfast_workers.collecting import start_left_out
from holdfast_workers.health import serve_health
from holdfast_workers.plugin import HoldfastPlugin
from holdfast_workers.serving import served_queues
from holdfast_workers.settings import Settings
from holdfast_workers.stopping import HandOver, Stop, stop_signals
from holdfast_workers.telemetry.worker import open_telemetry
from holdfast_workers.temporal import connect_temporal, logging_runtime

__all__ = ["VARIABLES", "WorkerSettings", "build_worker", "run"]

logger = logging.getLogger("holdfast.workers")

WORKFLOW_POLLS = PollerBehaviorSimpleMaximum(8)
"""Half of them on the queue that all workers share, where the SDK's default has one of five: on a busy machine what
is new, or has left its worker's own queue, waited there behind all else, the slowest decisions 6 to 8 s instead
of 2 to 3."""


def build_worker(
    client: Client,
    *,
    task_queue: str,
    settings: WorkerSettings | None = None,
    interceptors: Sequence[Interceptor] = (),
) -> Worker:
    """A worker of a client that has the `HoldfastPlugin`, as production and tests run it."""
    settings = settings or WorkerSettings()
    return Worker(
        client,
        task_queue=task_queue,
        interceptors=interceptors,
        workflow_task_poller_behavior=WORKFLOW_POLLS,
        nonsticky_to_sticky_poll_ratio=0.5,
        max_cached_workflows=settings.cached_sessions,
        max_concurrent_activities=settings.activities,
        sticky_queue_schedule_to_start_timeout=settings.sticky_timeout,
        max_heartbeat_throttle_interval=settings.heartbeat_throttle,
        default_heartbeat_throttle_interval=settings.heartbeat_throttle,
        graceful_shutdown_timeout=MODEL_TIMEOUT if settings.grace is None else settings.grace,
    )


def grace_of(settings: WorkerSettings, build: Build) -> timedelta:
    """How long what a worker runs may finish: as it was told, else as long as the longest of it may take."""
    if settings.grace is not None:
        return settings.grace
    longest = build.longest_tool() + RECORD_MARGIN
    return max(longest, MODEL_TIMEOUT) if "model" in settings.serves else longest


async def run(
    settings: Settings,
    *,
    health_port: int | None = None,
    worker_settings: WorkerSettings | None = None,
    faults: FaultPoints = no_faults,
) -> None:
    """Serve until SIGTERM or SIGINT; then finish what runs. A second signal hands it over to other workers.

    Raises:
        SettingsError: it cannot serve what it is told to serve.
        TemporalUnavailable, LedgerUnavailable: a server cannot be reached at start.
        NamespaceMissing: Temporal has no such namespace.
        SchemaMismatch, WrongTemporal: Postgres belongs to another version or another Temporal.
        ConfigError, DeclarationError: an agent or tool of the configuration cannot be used.
    """
    chosen = worker_settings or WorkerSettings()
    build = load_build(settings)
    chosen = chosen.model_copy(update={"grace": grace_of(chosen, build)})
    role, task_queue = next(
        iter(served_queues(build.config.queues.planned, chosen.serves, settings.task_queue).items())
    )
    telemetry = open_telemetry(os.environ, provider=settings.model.provider)
    hand_over = HandOver()
    plugin = HoldfastPlugin(
        settings,
        worker=chosen,
        build=build,
        telemetry=telemetry,
        faults=faults,
        sweep_every=chosen.sweep_every,
    )
    async with AsyncExitStack() as until_stopped:
        until_stopped.callback(telemetry.close)
        runtime = telemetry.runtime or logging_runtime()
        client = await connect_temporal(settings.temporal, plugins=[plugin, start_left_out()], runtime=runtime)
        worker = build_worker(
            client,
            task_queue=task_queue,
            settings=chosen.model_copy(update={"activities": chosen.at_once(role)}),
            interceptors=[hand_over],
        )
        if health_port is not None:
            await until_stopped.enter_async_context(serve_health(health_port, lambda: plugin.is_running(worker)))
        stop = until_stopped.enter_context(stop_signals())
        serving = asyncio.create_task(worker.run())
        await _first_of(serving, stop.asked)
        if not serving.done():
            await _drained(serving, stop, hand_over, asyncio.create_task(plugin.shutdown(worker)))
        await serving


async def _drained(
    serving: asyncio.Task[None], stop: Stop, hand_over: HandOver, shutting_down: asyncio.Task[None]
) -> None:
    """Wait until what runs has finished; once told again, until it is handed over."""
    running = {"running": len(hand_over)}
    logger.info("stopping: what runs goes on to its end; a second signal hands it over", extra=running)
    await _first_of(serving, stop.at_once)
    if not serving.done():
        logger.warning("stopping at once: what runs is handed over", extra={"running": len(hand_over)})
        hand_over()
        await asyncio.wait({serving})
    shutting_down.cancel()  # it may wait for a worker that never started


async def _first_of(serving: asyncio.Task[None], told: asyncio.Event) -> None:
    waiting = asyncio.create_task(told.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
