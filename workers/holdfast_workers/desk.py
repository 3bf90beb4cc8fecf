"""The activities a worker registers when it is built; what they work with is opened when it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

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
from holdfast.saga_contracts import (
    BeginUnwind,
    Compensate,
    DeadSessions,
    EndDeadSessions,
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
from holdfast_workers.capacity import Role
from holdfast_workers.work import Work


class Desk:
    work: Work

    def activities(self, role: Role) -> list[Callable[..., Any]]:
        """What the queue of this role is asked for.

        That of sessions is asked for everything: a session opened before there were others stays on it, and an
        inline call runs beside its session.
        """
        model: list[Callable[..., Any]] = [self.model_turn]
        tools: list[Callable[..., Any]] = [
            self.execute_call,
            self.probe_call,
            self.execute_step,
            self.compensate,
            self.settle_effect,
        ]
        around: list[Callable[..., Any]] = [
            self.open_session,
            self.flush_facts,
            self.close_session,
            self.open_saga,
            self.end_saga,
            self.begin_unwind,
            self.end_unwind,
            self.hold_saga,
            self.find_orphans,
            self.end_dead_sessions,
        ]
        served: dict[Role, list[Callable[..., Any]]] = {
            "sessions": [*around, *model, *tools],
            "model": model,
            "tools": tools,
        }
        return served[role]

    @activity.defn
    async def open_session(self, request: OpenSession) -> SessionPlan:
        return await self.work.sessions.open_session(request)

    @activity.defn
    async def model_turn(self, request: ModelTurn) -> TurnResult:
        if self.work.turns is None:
            raise ApplicationError(
                "this session was opened before model calls had a queue of their own, and this worker serves none: "
                "a worker of its queue that serves `sessions` and `model` goes on",
                type="not_served",
            )
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
    async def end_dead_sessions(self, request: EndDeadSessions) -> DeadSessions:
        return await self.work.endings.end_dead_sessions(request)

    @activity.defn
    async def hold_saga(self, request: HoldSaga) -> bool:
        return await self.work.sagas.hold_saga(request)
