"""`HoldfastPlugin`: what makes a Temporal client and worker serve agent sessions, in one object.

On a client it brings the payload converter. On a worker it also brings the workflows, the activities and the
sandbox's list, opens what the activities work with when the worker starts, and runs companions of that worker for
the queues that model calls and tools have of their own.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import timedelta

from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import DataConverter, DefaultPayloadConverter
from temporalio.plugin import SimplePlugin
from temporalio.worker import Worker, WorkerConfig, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from holdfast.errors import HoldfastError
from holdfast_activities.faults import FaultPoints, no_faults
from holdfast_workers.builds import Build, load_build
from holdfast_workers.capacity import ROLES, WorkerSettings
from holdfast_workers.converter import data_converter
from holdfast_workers.desk import Desk
from holdfast_workers.sandbox import for_converter, sandboxed_runner
from holdfast_workers.serving import companion, running, served_queues
from holdfast_workers.settings import Settings
from holdfast_workers.sweeping import DEFAULT_EVERY, ensure_schedule
from holdfast_workers.telemetry.worker import OFF, WorkerTelemetry
from holdfast_workers.work import open_work
from holdfast_workflows.saga_run import SagaRun
from holdfast_workflows.session import AgentSession
from holdfast_workflows.sweep import Sweep
from holdfast_workflows.unwind import Unwind


class ConverterMismatch(HoldfastError):
    """Holdfast's payloads are pydantic models: use a data converter whose payload converter is pydantic's."""

    code = "invalid"


class HoldfastPlugin(SimplePlugin):
    """Give it to the client alone: a worker made from that client inherits it."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        worker: WorkerSettings | None = None,
        build: Build | None = None,
        telemetry: WorkerTelemetry = OFF,
        faults: FaultPoints = no_faults,
        sweep_every: timedelta | None = DEFAULT_EVERY,
    ) -> None:
        """Args:
        settings: what the worker's activities use; None for a client or replayer that runs no activity.
        worker: what it serves, and how many calls at once on queues of their own; by default all roles.
        build: the configuration, where it is loaded already; read from the settings otherwise.
        sweep_every: how often sagas are looked for whose workflow died; None leaves the queue's schedule alone.
        telemetry: the worker's, from `holdfast_workers.telemetry.worker.open_telemetry`.
        faults: for tests of Holdfast itself, which lose a worker at a fault point.
        """
        self._settings = settings
        self._worker = worker or WorkerSettings()
        self._build = build
        self._telemetry = telemetry
        self._faults = faults
        self._sweep_every = sweep_every
        self._desk = Desk()
        self._companions: tuple[Worker, ...] = ()
        serves = self._worker.serves
        self._role = next(role for role in ROLES if role in serves)
        super().__init__(
            "holdfast",
            data_converter=_converter,
            activities=lambda existing: [
                *(existing or ()),
                *(self._desk.activities(self._role) if settings else ()),
            ],
            workflows=[AgentSession, SagaRun, Unwind, Sweep] if "sessions" in serves else None,
            workflow_runner=_runner,
            interceptors=telemetry.interceptors,
        )

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        config = super().configure_worker(config)
        config["workflow_runner"] = for_converter(config["workflow_runner"], config["client"].data_converter)
        patience = config.get("plugin_shutdown_timeout")
        if patience is not None:  # the companions' drain counts as the plugin's own
            config["plugin_shutdown_timeout"] = patience + config["graceful_shutdown_timeout"]
        return config

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        if self._settings is None:
            await super().run_worker(worker, next)
            return
        try:
            await self._serve(self._settings, worker, next)
        finally:
            # The SDK's own does so only where its check failed; `async with Worker` would wait for it for ever.
            worker._shutdown_complete_event.set()

    async def _serve(self, settings: Settings, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        serves = self._worker.serves
        build = self._build or load_build(settings)
        task_queue = worker.task_queue if "sessions" in serves else settings.task_queue
        queues = served_queues(build.config.queues.planned, serves, task_queue)
        opening = open_work(
            settings,
            worker.client,
            telemetry=self._telemetry,
            faults=self._faults,
            build=build,
            task_queue=task_queue,
            model="model" in serves,
        )
        async with opening as self._desk.work:
            if self._sweep_every is not None and "sessions" in serves:
                await ensure_schedule(worker.client, task_queue, self._sweep_every)
            self._companions = tuple(
                companion(worker, queue, self._desk.activities(role), at_once=self._worker.at_once(role))
                for role, queue in queues.items()
                if queue != worker.task_queue
            )
            async with running(self._companions):
                await next(worker)

    def is_running(self, worker: Worker) -> bool:
        """Whether the worker polls, and every companion of it."""
        return all(each.is_running for each in (worker, *self._companions))

    async def shutdown(self, worker: Worker) -> None:
        """Shut the worker and its companions down together; without this they follow it."""
        await asyncio.gather(*(each.shutdown() for each in (worker, *self._companions)))


def _converter(existing: DataConverter | None) -> DataConverter:
    """Ours where there is the default; a pydantic one of the user's stays, with its codec and storage."""
    if existing is None:
        return data_converter
    if existing.payload_converter_class is DefaultPayloadConverter:
        return dataclasses.replace(existing, payload_converter_class=data_converter.payload_converter_class)
    if not issubclass(existing.payload_converter_class, PydanticPayloadConverter):
        raise ConverterMismatch
    return existing


def _runner(existing: WorkflowRunner | None) -> WorkflowRunner:
    if isinstance(existing, SandboxedWorkflowRunner):
        return sandboxed_runner(existing.restrictions)
    return existing or sandboxed_runner()
