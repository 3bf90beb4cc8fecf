"""What the demo can prove at its end, each thing from whoever must know: services, ledger, Temporal's history."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from urllib.parse import quote

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus

from holdfast.states import EffectState, Tier
from holdfast.wire import Wire
from holdfast_ledger.verify import Verdict, verify_session
from holdfast_ledger.views import Attempt, Effect, Session
from holdfast_workers.demo.desk import LogEntry
from holdfast_workers.demo.job import Job
from holdfast_workers.settings import Settings


class EffectCounts(Wire):
    """`done` and `duplicates` as the services' log says, `unknown` as the ledger says."""

    done: int
    duplicates: int
    unknown: int


class LedgerFinding(Wire):
    entries: int
    verified: bool


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
    ledger: LedgerFinding
    cost_usd: float | None
    ui_url: str


@dataclass(frozen=True, kw_only=True)
class Check:
    """One claim of the demo, and whether it held."""

    claim: str
    holds: bool
    found: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    report: Report
    checks: tuple[Check, ...]
    log: tuple[LogEntry, ...]
    """What the services wrote down of this session, reads left out."""

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.holds)


async def gather(job: Job, settings: Settings) -> Evidence:
    """Ask everybody who knows, also of a session that did not end. Raises what they raise."""
    session = await job.reader.session(job.session_id)
    effects = await job.reader.effects(session_id=job.session_id)
    writes = [one for one in effects if one.kind == "call" and one.tier is not Tier.READ]
    attempts = {kill.effect.effect_id: await job.reader.attempts(kill.effect.effect_id) for kill in job.kills}
    log = tuple(one for one in await job.desk.log(since=job.since) if one.outcome != "read")
    verdict = await verify_session(job.client.ledger.database, job.session_id)
    answered = {turn.model_answered for turn in await job.reader.turns(job.session_id) if turn.model_answered}

    handle = job.client.temporal.get_workflow_handle(job.session_id)
    described = await handle.describe()
    signals = [
        event.workflow_execution_signaled_event_attributes.signal_name
        async for event in handle.fetch_history_events()
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    ]
    carried_out = Counter(one.idempotency_key for one in log if one.outcome == "carried_out")
    report = Report(
        session_id=session.id,
        model=", ".join(sorted(answered)) or "unknown" if settings.model.configured else "scripted",
        status=session.status,
        turns=session.turns,
        calls=session.calls,
        approvals=signals.count("approve"),
        worker_kills=sum(_lost(kill.worker.pid, attempts[kill.effect.effect_id]) for kill in job.kills),
        effects=EffectCounts(
            done=carried_out.total(),
            duplicates=sum(times - 1 for key, times in carried_out.items() if key) + carried_out[None],
            unknown=sum(one.state is EffectState.UNKNOWN for one in effects),
        ),
        ledger=LedgerFinding(entries=verdict.entries, verified=verdict.ok),
        cost_usd=None if session.usd is None else float(session.usd),
        ui_url=ui_url(settings, session.id, described.run_id),
    )
    return Evidence(report=report, checks=judge(report, session, described.status, writes, carried_out, verdict), log=log)


def judge(
    report: Report,
    session: Session,
    status: WorkflowExecutionStatus | None,
    writes: list[Effect],
    carried_out: Counter[str | None],
    verdict: Verdict,
) -> tuple[Check, ...]:
    """Every claim of the demo, held against what was found."""
    landed = {one.effect_id for one in writes if one.state is EffectState.DONE}
    asked = [one for one in writes if one.tool == "refund"]
    return (
        Check(
            claim="the session completed",
            holds=session.status == "completed" and status is WorkflowExecutionStatus.COMPLETED,
            found=f"{session.status} ({session.status_reason or 'no reason given'}), {status.name if status else None}",
        ),
        Check(
            claim="a worker was killed while a tool ran, and its attempt was lost",
            holds=report.worker_kills == 1,
            found=f"{report.worker_kills} attempts lost to a kill",
        ),
        Check(
            claim="a signal released the refund",
            holds=report.approvals == 1 and [one.state for one in asked] == [EffectState.DONE],
            found=f"{report.approvals} signals; refunds: {[one.state.value for one in asked]}",
        ),
        Check(
            claim="the services did each effect of the ledger once, and nothing else",
            holds=set(carried_out) == landed and report.effects.duplicates == 0,
            found=f"{report.effects.done} carried out for {len(landed)} effects of the ledger",
        ),
        Check(
            claim="no outcome is unknown",
            holds=report.effects.unknown == 0,
            found=f"{report.effects.unknown} unknown",
        ),
        Check(
            claim="the ledger verifies",
            holds=report.ledger.verified,
            found=verdict.problem or f"{verdict.entries} entries",
        ),
    )


def _lost(pid: int, attempts: list[Attempt]) -> bool:
    """Whether the ledger shows that an attempt of worker `pid` never reported, and that another worker finished."""
    lost = any(one.worker.startswith(f"{pid}@") and one.ended_at and one.state != "DONE" for one in attempts)
    return lost and any(one.state == "DONE" and not one.worker.startswith(f"{pid}@") for one in attempts)


def ui_url(settings: Settings, session_id: str, run_id: str | None) -> str:
    """This very run in Temporal's UI."""
    workflow = f"{settings.ui_url}/namespaces/{settings.temporal.namespace}/workflows/{quote(session_id, safe='')}"
    return f"{workflow}/{run_id}/history" if run_id else workflow
