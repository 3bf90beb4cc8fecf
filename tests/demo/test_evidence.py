"""The demo says what did not hold: it judges what others found, and one wrong finding is enough."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus

from holdfast.states import EffectState, SagaState, SessionStatus, Tier
from holdfast_ledger.verify import Verdict
from holdfast_ledger.views import Attempt, Effect, Saga, Session
from holdfast_workers.demo.desk import LogEntry
from holdfast_workers.demo.evidence import Evidence
from holdfast_workers.demo.judging import judge

NOW = datetime(2030, 3, 12, tzinfo=UTC)
DEAD, ALIVE = "11@host", "12@host"

Known = dict[str, Any]
"""The fields of a record that the judgement looks at."""


def effect(effect_id: str, tool: str, tier: Tier, **other: Any) -> Effect:
    known: Known = {"effect_id": effect_id, "kind": "call", "tool": tool, "tier": tier, "state": EffectState.DONE}
    return Effect.model_construct(**known | {"saga_id": "s/request-1", "call": f"{effect_id}.1"} | other)


def saga(number: int, state: SagaState) -> Saga:
    return Saga.model_construct(id=f"s/request-{number}", state=state)


def attempt(token: int, worker: str, state: str) -> Attempt:
    known: Known = {"token": token, "worker": worker, "claimed_at": NOW, "ended_at": NOW, "state": state}
    return Attempt.model_construct(**known)


def carried_out(seq: int, kind: str, key: str | None) -> LogEntry:
    return LogEntry(seq=seq, outcome="carried_out", kind=kind, idempotency_key=key)


COMPLETED: Known = {
    "id": "s",
    "status": SessionStatus.COMPLETED,
    "status_reason": None,
    "turns": 2,
    "calls": 2,
    "usd": Decimal(0),
}
GOOD = Evidence(
    session=Session.model_construct(**COMPLETED),
    status=WorkflowExecutionStatus.COMPLETED,
    effects=(effect("a", "hold_seat", Tier.REVERSIBLE), effect("b", "refund", Tier.IRREVERSIBLE)),
    kills={11: (attempt(1, DEAD, "EXPIRED"), attempt(2, ALIVE, "DONE"))},
    log=(carried_out(1, "hold_seat", "a"), carried_out(2, "refund", "b")),
    signals=("approve",),
    verdict=Verdict(session_id="s", entries=10),
    model="scripted",
    ui_url="http://ui",
    refund_asked=True,
    sagas=(saga(1, SagaState.COMMITTED),),
)
UNDONE = replace(
    GOOD,
    effects=(
        effect("1", "hold_seat", Tier.REVERSIBLE),
        effect("2", "move_hotel", Tier.REVERSIBLE),
        effect("3", "refund", Tier.IRREVERSIBLE, state=EffectState.FAILED),
        effect("2:undo", "move_hotel_back", Tier.IRREVERSIBLE, kind="undo"),
        effect("1:undo", "release_seat", Tier.IRREVERSIBLE, kind="undo"),
        effect("4", "send_mail", Tier.IRREVERSIBLE, saga_id="s/request-2"),
    ),
    kills={},
    log=tuple(carried_out(seq, "any", key) for seq, key in enumerate(("1", "2", "2:undo", "1:undo", "4"))),
    sagas=(saga(1, SagaState.ABORTED), saga(2, SagaState.COMMITTED)),
    compensated=("compensate-2.1.move_hotel", "compensate-1.1.hold_seat"),
    fail_payment=True,
)


def failing(found: Evidence) -> list[str]:
    return [check.claim for check in judge(found) if not check.holds]


def test_what_went_well_holds() -> None:
    assert failing(GOOD) == []
    assert failing(UNDONE) == []


@pytest.mark.parametrize(
    ("wrong", "claim"),
    [
        ({"status": WorkflowExecutionStatus.TERMINATED}, "completed"),
        ({"kills": {}}, "killed"),
        ({"kills": {11: (attempt(1, DEAD, "DONE"),)}}, "killed"),
        ({"signals": ()}, "signal"),
        ({"sagas": (saga(1, SagaState.HELD),)}, "committed"),
        ({"signals": ("approve", "approve")}, "signal"),
        ({"log": (*GOOD.log, carried_out(3, "refund", "b"))}, "once"),
        ({"log": (*GOOD.log, carried_out(3, "refund", "c"))}, "nothing else"),
        ({"log": GOOD.log[:1]}, "once"),
        ({"verdict": Verdict(session_id="s", entries=10, problem="entry 4 is missing", bad_seq=4)}, "verifies"),
    ],
)
def test_one_wrong_finding_is_enough(wrong: dict[str, Any], claim: str) -> None:
    (failed,) = failing(replace(GOOD, **wrong))
    assert claim in failed


@pytest.mark.parametrize(
    ("wrong", "claim"),
    [
        ({"signals": ()}, "refused"),
        ({"sagas": (saga(1, SagaState.HELD), UNDONE.sagas[1])}, "aborted"),
        ({"sagas": (UNDONE.sagas[0], saga(2, SagaState.ABORTED))}, "told"),
        ({"compensated": UNDONE.compensated[:1]}, "came back"),
        ({"verdict": Verdict(session_id="s", entries=10, problem="entry 4 is missing", bad_seq=4)}, "verifies"),
    ],
)
def test_one_wrong_finding_is_enough_where_the_payment_failed(wrong: dict[str, Any], claim: str) -> None:
    (failed,) = failing(replace(UNDONE, **wrong))
    assert claim in failed


def test_a_step_that_the_services_never_undid_stands() -> None:
    assert len(failing(replace(UNDONE, log=UNDONE.log[:3]))) == 2  # it has no undo, and the log is not the ledger's
