"""What the demo can prove at its end, each thing from whoever must know: services, ledger, Temporal's history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from holdfast.saga_contracts import unwind_id
from holdfast.states import EffectState, SagaState, Tier
from holdfast.wire import Wire
from holdfast_ledger.chain import Verdict
from holdfast_ledger.verify import verify_session
from holdfast_ledger.views import Attempt, Effect, Saga, Session
from holdfast_workers.demo.desk import LogEntry
from holdfast_workers.demo.job import Job
from holdfast_workers.settings import Settings

COMPENSATE = "compensate"
"""Type of the activities that undo a step."""


class EffectCounts(Wire):
    """`done` and `duplicates` as the services' log says, `unknown` as the ledger says."""

    done: int
    duplicates: int
    unknown: int


class LedgerFinding(Wire):
    entries: int
    verified: bool


class SagaFinding(Wire):
    """How the saga of the session's first changes ended, as the ledger says."""

    outcome: SagaState


class Report(Wire):
    """The last line of `holdfast demo --json`. `cost_usd` is None where a price is unknown."""

    session_id: str
    model: str
    status: str
    turns: int
    calls: int
    approvals: int
    worker_kills: int
    effects: EffectCounts
    saga: SagaFinding | None
    ledger: LedgerFinding
    cost_usd: float | None
    ui_url: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What everybody said of one session."""

    session: Session
    status: WorkflowExecutionStatus | None
    effects: tuple[Effect, ...]
    kills: Mapping[int, tuple[Attempt, ...]]
    """By the killed worker's pid: all attempts of the effect that it died on."""
    log: tuple[LogEntry, ...]
    """What the services wrote down since the job began, reads left out."""
    signals: tuple[str, ...]
    """Names of the signals in Temporal's history."""
    verdict: Verdict
    model: str
    ui_url: str
    refund_asked: bool
    sagas: tuple[Saga, ...]
    """Of the session's requests, oldest first."""
    compensated: tuple[str, ...] = ()
    """Ids of the activities of type `compensate` that completed, from the history of the first saga's unwind."""
    fail_payment: bool = False

    @property
    def writes(self) -> list[Effect]:
        """Calls and their undos, as far as they may change anything."""
        return [one for one in self.effects if one.kind != "model" and one.tier is not Tier.READ]

    @property
    def landed(self) -> set[str]:
        return {one.effect_id for one in self.writes if one.state is EffectState.DONE}

    @property
    def carried_out(self) -> Counter[str | None]:
        """How often the services did what, by key; None for requests without one."""
        return Counter(one.idempotency_key for one in self.log if one.outcome == "carried_out")

    @property
    def lost_to_kills(self) -> int:
        return sum(_lost(pid, attempts) for pid, attempts in self.kills.items())


def _lost(pid: int, attempts: tuple[Attempt, ...]) -> bool:
    """Whether an attempt of worker `pid` ended without its own doing, and another worker settled the effect."""
    dead, others = f"{pid}@", [one for one in attempts if not one.worker.startswith(f"{pid}@")]
    lost = any(one.worker.startswith(dead) and one.ended_at and one.state == "EXPIRED" for one in attempts)
    return lost and any(one.state == "DONE" for one in others)


async def gather(job: Job, settings: Settings) -> Evidence:
    """Ask everybody who knows, also of a session that did not end. Raises what they raise."""
    reader, session_id = job.reader, job.session_id
    session = await reader.session(session_id)
    answered = sorted({turn.model_answered for turn in await reader.turns(session_id) if turn.model_answered})
    handle = job.client.temporal.get_workflow_handle(session_id)
    described = await handle.describe()
    signals = [
        event.workflow_execution_signaled_event_attributes.signal_name
        async for event in handle.fetch_history_events()
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    ]
    sagas = tuple(await reader.sagas(session_id=session_id))
    return Evidence(
        session=session,
        status=described.status,
        effects=tuple(await reader.effects(session_id=session_id)),
        kills={
            kill.worker.pid: tuple(await reader.attempts(kill.effect.effect_id))  # all of them, by now
            for kill in job.kills
        },
        log=tuple(one for one in await job.desk.log(since=job.since) if one.outcome != "read"),
        signals=tuple(signals),
        verdict=await verify_session(job.client.ledger.database, session_id),
        model=(", ".join(answered) or "unknown") if settings.model.configured else "scripted",
        ui_url=ui_url(settings, session_id, described.run_id),
        refund_asked=job.refund_asked,
        sagas=sagas,
        compensated=await _compensated(job, sagas) if job.fail_payment else (),
        fail_payment=job.fail_payment,
    )


async def _compensated(job: Job, sagas: tuple[Saga, ...]) -> tuple[str, ...]:
    """Which compensations the first saga's unwind ran to their end; none where it was never unwound."""
    if not sagas:
        return ()
    history = job.client.temporal.get_workflow_handle(unwind_id(sagas[0].id))
    started: dict[int, str] = {}
    completed: list[str] = []
    try:
        async for event in history.fetch_history_events():
            scheduled = event.activity_task_scheduled_event_attributes
            if scheduled.activity_type.name == COMPENSATE:
                started[event.event_id] = scheduled.activity_id
            elif activity := started.get(event.activity_task_completed_event_attributes.scheduled_event_id):
                completed.append(activity)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
    return tuple(completed)


def report(found: Evidence) -> Report:
    session, carried_out = found.session, found.carried_out
    return Report(
        session_id=session.id,
        model=found.model,
        status=session.status,
        turns=session.turns,
        calls=session.calls,
        approvals=found.signals.count("approve"),
        worker_kills=found.lost_to_kills,
        effects=EffectCounts(
            done=carried_out.total(),
            duplicates=sum(times - 1 for times in carried_out.values()),
            unknown=sum(one.state is EffectState.UNKNOWN for one in found.effects),
        ),
        saga=SagaFinding(outcome=found.sagas[0].state) if found.sagas else None,
        ledger=LedgerFinding(entries=found.verdict.entries, verified=found.verdict.ok),
        cost_usd=None if session.usd is None else float(session.usd),
        ui_url=found.ui_url,
    )


def ui_url(settings: Settings, session_id: str, run_id: str | None) -> str:
    """This very run in Temporal's UI."""
    workflow = f"{settings.ui_url}/namespaces/{settings.temporal.namespace}/workflows/{quote(session_id, safe='')}"
    return f"{workflow}/{run_id}/history" if run_id else workflow
