"""What the demo claims, each claim held against what others found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from temporalio.client import WorkflowExecutionStatus

from holdfast.states import EffectState, SagaState
from holdfast_ledger.views import Effect
from holdfast_workers.demo.evidence import Evidence, report
from holdfast_workers.demo.job import APPROVED

MAIL = "send_mail"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One claim of the demo, and whether it held."""

    claim: str
    holds: bool
    found: str


def judge(found: Evidence) -> tuple[Check, ...]:
    """Every claim of the demo."""
    return (
        _completed(found),
        *(_came_back(found) if found.fail_payment else _went_through(found)),
        *_always(found),
    )


def _completed(found: Evidence) -> Check:
    status = report(found).status
    return Check(
        claim="the session completed",
        holds=status == "completed" and found.status is WorkflowExecutionStatus.COMPLETED,
        found=f"{status}, {found.session.status_reason or 'no reason given'}",
    )


def _went_through(found: Evidence) -> Iterator[Check]:
    said = report(found)
    refunds = [one.state for one in found.writes if one.tool == APPROVED]
    wanted = 1 if found.refund_asked else len(refunds)
    yield Check(
        claim="a worker was killed while a tool ran, and another one took over",
        holds=said.worker_kills == 1,
        found=f"{said.worker_kills} attempts lost to a kill",
    )
    yield Check(
        claim="a signal released the refund" if found.refund_asked else "no refund went out without a signal",
        holds=said.approvals == refunds.count(EffectState.DONE) == wanted,
        found=f"{said.approvals} signals, {len(refunds)} refunds",
    )
    yield Check(
        claim="what was done is committed",
        holds=_ended(found, 0) is SagaState.COMMITTED,
        found=f"{_ended(found, 0)}",
    )


def _came_back(found: Evidence) -> Iterator[Check]:
    """Of the run in which the payment fails."""
    steps = [
        one
        for one in found.writes
        if one.kind == "call" and one.state is EffectState.DONE and _in_first(found, one)
    ]
    undone = [one for one in steps if f"{one.effect_id}:undo" in found.landed]
    refunds = [one.state for one in found.writes if one.tool == APPROVED]
    yield Check(
        claim="a signal released the refund, and the payment service refused it",
        holds=len(found.signals) == len(refunds) > 0 and set(refunds) == {EffectState.FAILED},
        found=f"{found.signals.count('approve')} signals, refund {', '.join(refunds) or 'never sent'}",
    )
    yield Check(
        claim="the saga was aborted",
        holds=_ended(found, 0) is SagaState.ABORTED,
        found=f"{_ended(found, 0)}",
    )
    yield Check(
        claim="what was changed before came back, each step by an activity of type `compensate`",
        holds=len(steps) > 1 and set(found.compensated) == {f"compensate-{one.call}.{one.tool}" for one in steps},
        found=", ".join(found.compensated) or "none ran",
    )
    yield Check(
        claim="the services' log has an undo for each of these steps",
        holds=len(undone) == len(steps) and all(f"{one.effect_id}:undo" in found.carried_out for one in steps),
        found=f"{len(undone)} undone of {len(steps)}",
    )
    mails = [one for one in found.writes if one.tool == MAIL and one.state is EffectState.DONE]
    yield Check(
        claim="the customer was told, in a saga of its own",
        holds=len(mails) == 1 and not _in_first(found, mails[0]) and _ended(found, 1) is SagaState.COMMITTED,
        found=f"mails sent: {len(mails)}",
    )


def _always(found: Evidence) -> Iterator[Check]:
    said = report(found)
    yield Check(
        claim="the services did each effect of the ledger once, and nothing else",
        holds=set(found.carried_out) == found.landed and said.effects.duplicates == 0,
        found=f"{said.effects.done} carried out for {len(found.landed)} effects of the ledger",
    )
    yield Check(
        claim="no outcome is unknown",
        holds=said.effects.unknown == 0,
        found=f"{said.effects.unknown} unknown",
    )
    yield Check(
        claim="the ledger verifies",
        holds=said.ledger.verified,
        found=found.verdict.problem or f"{found.verdict.entries} entries",
    )


def _in_first(found: Evidence, effect: Effect) -> bool:
    return bool(found.sagas) and effect.saga_id == found.sagas[0].id


def _ended(found: Evidence, number: int) -> SagaState | None:
    return found.sagas[number].state if len(found.sagas) > number else None
