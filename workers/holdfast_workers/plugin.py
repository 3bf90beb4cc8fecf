"""`HoldfastPlugin`: what makes a Temporal client and worker serve agent sessions, in one object.

On a client it brings the payload converter. On a worker it also brings the workflows, the activities and the
sandbox's list, and opens what the activities work with when the worker starts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import DataConverter, DefaultPayloadConverter
from temporalio.plugin import SimplePlugin
from temporalio.worker import Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from holdfast.contracts import (
    CallOutcome,
    CloseSession,
    ExecuteCall,
    FlushFacts,
    ModelTurn,
    OpenSession,
    SessionPlan,
    TurnResult,
)
from holdfast.errors import HoldfastError
from holdfast.saga_contracts import (
    BeginUnwind,
    Compensate,
    EndSaga,
    EndUnwind,
    ExecuteStep,
    FindOrphans,
    HoldSaga,
    OpenSaga,
    OrphanPage,
    SagaPlan,
    SettleEffect,
    StepOutcome,
    UnwindPlan,
)
from holdfast.states import EffectState, SagaState
from holdfast_activities.faults import FaultPoints, no_faults
from holdfast_workers.converter import data_converter
from holdfast_workers.sandbox import sandboxed_runner
from holdfast_workers.settings import Settings
from holdfast_workers.sweeping import DEFAULT_EVERY, ensure_schedule
from holdfast_workers.telemetry.worker import OFF, WorkerTelemetry
from holdfast_workers.work import Work, open_work
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
        telemetry: WorkerTelemetry = OFF,
        faults: FaultPoints = no_faults,
        sweep_every: timedelta | None = DEFAULT_EVERY,
    ) -> None:
        """Args:
        settings: what the worker's activities use; None for a client or replayer that runs no activity.
        sweep_every: how often sagas are looked for whose workflow died; None leaves the queue's schedule alone.
        telemetry: the worker's, from `holdfast_workers.telemetry.worker.open_telemetry`.
        faults: for tests of Holdfast itself, which lose a worker at a fault point.
        """
        self._settings = settings
        self._telemetry = telemetry
        self._faults = faults
        self._sweep_every = sweep_every
        self._desk = Desk()
        super().__init__(
            "holdfast",
            data_converter=_converter,
            activities=lambda existing: [*(existing or ()), *(self._desk.activities() if settings else ())],
            workflows=[AgentSession, SagaRun, Unwind, Sweep],
            workflow_runner=_runner,
            interceptors=telemetry.interceptors,
        )

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        if self._settings is None:
            await super().run_worker(worker, next)
            return
        opening = open_work(
            self._settings,
            worker.client,
            telemetry=self._telemetry,
            faults=self._faults,
            task_queue=worker.task_queue,
        )
        async with opening as self._desk.work:
            if self._sweep_every is not None:
                await ensure_schedule(worker.client, worker.task_queue, self._sweep_every)
            await super().run_worker(worker, next)


class Desk:
    """The activities a worker registers when it is built; their work is opened when it runs."""

    work: Work

    def activities(self) -> list[Callable[..., Any]]:
        return [
            self.open_session,
            self.model_turn,
            self.execute_call,
            self.probe_call,
            self.flush_facts,
            self.close_session,
            self.open_saga,
            self.execute_step,
            self.end_saga,
            self.begin_unwind,
            self.compensate,
            self.settle_effect,
            self.end_unwind,
            self.hold_saga,
            self.find_orphans,
        ]

    @activity.defn
    async def open_session(self, request: OpenSession) -> SessionPlan:
        return await self.work.sessions.open_session(request)

    @activity.defn
    async def model_turn(self, request: ModelTurn) -> TurnResult:
        return await self.work.turns.model_turn(request)

    @activity.defn
    async def execute_call(self, request: ExecuteCall) -> CallOutcome:
        return await self.work.calls.execute_call(request)

    @activity.defn
    async def probe_call(self, request: ExecuteCall) -> CallOutcome:
        return await self.work.probes.probe_call(request)

    @activity.defn
    async def flush_facts(self, request: FlushFacts) -> str | None:
        return await self.work.sessions.flush_facts(request)

    @activity.defn
    async def close_session(self, request: CloseSession) -> None:
        await self.work.sessions.close_session(request)

    @activity.defn
    async def open_saga(self, request: OpenSaga) -> SagaPlan:
        return await self.work.sagas.open_saga(request)

    @activity.defn
    async def execute_step(self, request: ExecuteStep) -> StepOutcome:
        return await self.work.steps.execute_step(request)

    @activity.defn
    async def end_saga(self, request: EndSaga) -> SagaState:
        return await self.work.sagas.end_saga(request)

    @activity.defn
    async def begin_unwind(self, request: BeginUnwind) -> UnwindPlan:
        return await self.work.unwindings.begin_unwind(request)

    @activity.defn
    async def compensate(self, request: Compensate) -> StepOutcome:
        return await self.work.compensations.compensate(request)

    @activity.defn
    async def settle_effect(self, request: SettleEffect) -> EffectState:
        return await self.work.settlements.settle_effect(request)

    @activity.defn
    async def end_unwind(self, request: EndUnwind) -> SagaState:
        return await self.work.unwindings.end_unwind(request)

    @activity.defn
    async def find_orphans(self, request: FindOrphans) -> OrphanPage:
        return await self.work.orphans.find_orphans(request)

    @activity.defn
    async def hold_saga(self, request: HoldSaga) -> bool:
        return await self.work.sagas.hold_saga(request)


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
