"""Facts told to the ledger: once, whatever is told again; and what they change besides."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from holdfast.facts import Fact, Kind
from holdfast.states import EffectState
from holdfast_ledger.errors import FactRefused, LedgerConflict, SessionMissing
from holdfast_ledger.records import Granted, PlannedCall, Refused, Settled
from holdfast_ledger.store import Ledger
from tests.conftest import Database
from tests.ledger.conftest import START, Conversation
from tests.waiting import until_locked_out


def status(conversation: Conversation, word: str, *, minutes: int, key: str | None = None) -> Fact:
    at = START + timedelta(minutes=minutes)
    key = key or f"status/{minutes}/{word}"
    return conversation.fact(Kind.SESSION_STATUS, key, at=at, outcome=word, body={"reason": f"now {word}"})


def asked(conversation: Conversation, call: PlannedCall, *, minutes: int = 1, **body: Any) -> Fact:
    at = START + timedelta(minutes=minutes)
    return conversation.fact(
        Kind.APPROVAL_ASKED,
        f"asked/{call.call}/{minutes}",
        at=at,
        turn=conversation.turn,
        call=call.call,
        effect_id=call.effect_id,
        tool=call.tool,
        tier=call.tier,
        body={
            "digest": call.digest,
            "preview": call.preview,
            "expires_at": (at + timedelta(hours=1)).isoformat(),
            **body,
        },
    )


async def decided(
    conversation: Conversation,
    call: PlannedCall,
    outcome: str = "approved",
    *,
    age: timedelta = timedelta(0),
    id: str = "d1",
) -> Fact:
    now = await conversation.owner.fetchval("SELECT clock_timestamp()")
    return conversation.fact(
        Kind.APPROVAL_DECIDED,
        f"decided/{call.call}/{id}",
        at=now - age,
        call=call.call,
        tool=call.tool,
        outcome=outcome,
        actor="bo",
        body={
            "decision": id,
            "approve": outcome == "approved",
            "by": "bo",
            "authenticated": True,
            "reason": "because",
        },
    )


async def tell(conversation: Conversation, *facts: Fact) -> None:
    await conversation.ledger.append(conversation.session_id, facts)


async def refusal(conversation: Conversation, call: PlannedCall, **changes: Any) -> str:
    result = await conversation.claim(call, **changes)
    assert isinstance(result, Refused), result
    return result.code


async def test_the_same_fact_twice_is_one_entry(conversation: Conversation) -> None:
    fact = status(conversation, "idle", minutes=1)
    await tell(conversation, fact, fact)
    await tell(conversation, fact)
    await tell(conversation, fact.model_copy(update={"at": START + timedelta(hours=1)}))

    assert len(await conversation.entries(Kind.SESSION_STATUS)) == 1


async def test_a_reset_workflow_may_ask_the_same_again_at_another_time(conversation: Conversation) -> None:
    call = await conversation.plan()
    first = asked(conversation, call)
    later = asked(conversation, call, minutes=9).model_copy(update={"key": first.key})

    await tell(conversation, first)
    await tell(conversation, later)

    assert len(await conversation.entries(Kind.APPROVAL_ASKED)) == 1
    approval = (await conversation.ledger.reader.approvals())[0]
    assert approval.expires_at == later.at + timedelta(hours=1)


@pytest.mark.parametrize("change", [{"outcome": "running"}, {"body": {"reason": "other"}}, {"actor": "eve"}])
async def test_the_same_key_with_other_content_is_a_conflict_and_nothing_of_it_is_written(
    conversation: Conversation, change: dict[str, Any]
) -> None:
    fact = status(conversation, "idle", minutes=1)
    await tell(conversation, fact)
    other = status(conversation, "waiting", minutes=2)

    with pytest.raises(LedgerConflict, match=fact.key):
        await tell(conversation, other, fact.model_copy(update=change))

    assert len(await conversation.entries(Kind.SESSION_STATUS)) == 1
    assert (await conversation.ledger.reader.session(conversation.session_id)).status == "idle"


@pytest.mark.parametrize(
    "fact",
    [
        Fact(key="@opened", kind=Kind.SESSION_STATUS, at=START, outcome="idle"),
        Fact(key="mine", kind=Kind.EFFECT_OUTCOME, at=START, outcome="done"),
        Fact(key="mine", kind=Kind.EFFECT_INTENT, at=START),
        Fact(key="mine", kind=Kind.SAGA_CLOSED, at=START),
    ],
)
async def test_what_only_the_ledger_says_cannot_be_told_to_it(conversation: Conversation, fact: Fact) -> None:
    with pytest.raises(FactRefused):
        await tell(conversation, fact)


async def test_facts_of_an_unknown_session_are_refused(conversation: Conversation) -> None:
    with pytest.raises(SessionMissing, match="nobody"):
        await conversation.ledger.append("nobody", (status(conversation, "idle", minutes=1),))


async def test_an_older_status_never_replaces_a_newer_one(conversation: Conversation) -> None:
    await tell(conversation, status(conversation, "waiting", minutes=5))
    await tell(conversation, status(conversation, "idle", minutes=3))

    session = await conversation.ledger.reader.session(conversation.session_id)

    assert (session.status, session.status_reason) == ("waiting", "now waiting")
    assert len(await conversation.entries(Kind.SESSION_STATUS)) == 2


async def test_the_outbox_is_written_by_whatever_carries_it(conversation: Conversation) -> None:
    call = await conversation.plan()
    fact = status(conversation, "waiting", minutes=2)

    await conversation.grant(call, outbox=(fact,))
    await conversation.claim(call, outbox=(fact,))

    assert len(await conversation.entries(Kind.SESSION_STATUS)) == 1
    kinds = [entry["kind"] for entry in await conversation.entries()]
    assert kinds.index("session_status") < kinds.index("effect_intent")


async def test_an_ask_waits_in_the_inbox_until_it_is_decided(conversation: Conversation) -> None:
    call = await conversation.plan()
    await tell(conversation, asked(conversation, call))

    waiting = await conversation.ledger.reader.approvals()
    assert [(each.call, each.digest, each.tool, each.preview) for each in waiting] == [
        (call.call, call.digest, "refund", call.preview)
    ]
    await tell(conversation, await decided(conversation, call))

    assert await conversation.ledger.reader.approvals() == []
    done = (await conversation.ledger.reader.approvals(pending=False))[0]
    assert (done.state, done.decided_by, done.authenticated, done.reason) == ("approved", "bo", True, "because")


async def test_an_approved_call_runs_once_and_its_later_attempts_need_no_new_decision(
    conversation: Conversation,
) -> None:
    call = await conversation.plan()
    outbox = (asked(conversation, call), await decided(conversation, call))
    for attempt in (1, 2):
        granted = await conversation.grant(
            call, decision="d1", use_within=timedelta(minutes=5), outbox=outbox if attempt == 1 else ()
        )
        await conversation.owner.execute("UPDATE holdfast.approval SET decided_at = decided_at - interval '1 hour'")
        await conversation.record(call, granted.token, EffectState.OPEN)

    approval = (await conversation.ledger.reader.approvals(pending=False))[0]
    assert (approval.state, approval.consumed_by) == ("consumed", call.effect_id)


@pytest.mark.parametrize("outcome", ["denied", "expired"])
async def test_a_call_that_was_not_approved_never_runs(conversation: Conversation, outcome: str) -> None:
    call = await conversation.plan()
    await tell(conversation, asked(conversation, call))
    assert await refusal(conversation, call) == "not_approved"
    assert await refusal(conversation, call, decision="d1") == "not_approved"

    await tell(conversation, await decided(conversation, call, outcome))

    settled = await conversation.claim(call, decision="d1")
    assert isinstance(settled, Settled)
    assert settled.state is EffectState.CANCELLED
    assert (settled.outcome["status"], settled.outcome["text"]) == ("denied", "because")


async def test_an_asked_call_does_not_run_without_its_decision_even_when_approved(
    conversation: Conversation,
) -> None:
    call = await conversation.plan()
    await tell(conversation, asked(conversation, call), await decided(conversation, call))

    assert await refusal(conversation, call) == "not_approved"
    assert await refusal(conversation, call, decision="d2") == "not_approved"


async def test_a_decision_too_old_at_the_first_claim_is_expired(conversation: Conversation) -> None:
    call = await conversation.plan()
    await tell(conversation, asked(conversation, call), await decided(conversation, call, age=timedelta(minutes=6)))

    assert await refusal(conversation, call, decision="d1", use_within=timedelta(minutes=5)) == "approval_expired"
    assert isinstance(await conversation.claim(call, decision="d1"), Granted)


async def test_a_decision_counts_for_the_call_and_arguments_it_was_made_for_only(
    conversation: Conversation,
) -> None:
    approved, other = conversation.planned_call(), conversation.planned_call()
    await conversation.take_turn(approved, other)
    await tell(conversation, asked(conversation, approved), await decided(conversation, approved))

    assert await refusal(conversation, other, decision="d1") == "not_approved"


async def test_a_decision_is_used_by_one_effect(conversation: Conversation) -> None:
    first = await conversation.plan()
    await tell(conversation, asked(conversation, first), await decided(conversation, first))
    await conversation.grant(first, decision="d1")
    # The same call with the same arguments on another branch of a reset.
    await conversation.owner.execute(
        "INSERT INTO holdfast.effect "
        "(effect_id, session_key, kind, turn, call, tool, tier, recovery, fingerprint, saga_id) "
        "SELECT 'branch', session_key, kind, turn, call, tool, tier, recovery, fingerprint, saga_id "
        "FROM holdfast.effect WHERE effect_id = $1",
        first.effect_id,
    )

    assert await refusal(conversation, first, effect_id="branch", decision="d1") == "approval_used"


async def test_an_old_decision_told_again_does_not_decide_a_new_ask(conversation: Conversation) -> None:
    call = await conversation.plan()
    old = await decided(conversation, call)
    await tell(conversation, asked(conversation, call), old)
    await tell(conversation, asked(conversation, call, minutes=2), old)

    assert len(await conversation.ledger.reader.approvals()) == 1
    await tell(conversation, await decided(conversation, call, id="d2"))
    assert isinstance(await conversation.claim(call, decision="d2"), Granted)


@pytest.mark.parametrize(("outcome", "status"), [("deny", "denied"), ("cancelled", "cancelled")])
async def test_a_call_the_workflow_decided_against_is_cancelled(
    conversation: Conversation, outcome: str, status: str
) -> None:
    call = await conversation.plan()
    fact = conversation.fact(
        Kind.CALL_DECIDED,
        "decided",
        call=call.call,
        outcome=outcome,
        body={"reason": "no refunds", "digest": call.digest},
    )
    await tell(conversation, fact)

    settled = await conversation.claim(call)

    assert isinstance(settled, Settled)
    assert (settled.state, settled.outcome["status"]) == (EffectState.CANCELLED, status)
    assert settled.outcome["text"] == "no refunds"


async def test_a_cancelled_call_waits_for_nobody(conversation: Conversation) -> None:
    call = await conversation.plan()
    await tell(conversation, asked(conversation, call))
    body = {"reason": "aborted by ann", "digest": call.digest}
    fact = conversation.fact(Kind.CALL_DECIDED, "cancelled", call=call.call, outcome="cancelled", body=body)
    await tell(conversation, fact)

    assert await conversation.ledger.reader.approvals() == []
    [told] = await conversation.ledger.reader.approvals(pending=False)
    assert (told.state, told.reason) == ("expired", "aborted by ann")


async def test_what_is_dispatched_cannot_be_decided_against_any_more(conversation: Conversation) -> None:
    call = await conversation.plan()
    granted = await conversation.grant(call)
    await tell(
        conversation, conversation.fact(Kind.CALL_DECIDED, "decided", effect_id=call.effect_id, outcome="deny")
    )

    assert (await conversation.record(call, granted.token, EffectState.DONE)).accepted


async def test_a_transaction_that_lost_a_deadlock_is_run_again(
    database: Database, conversation: Conversation, owner: asyncpg.Connection
) -> None:
    call = await conversation.plan()
    await tell(conversation, asked(conversation, call))
    decision = await decided(conversation, call)
    name = await owner.fetchval("SELECT current_database()")
    await owner.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '50ms'")
    conversation.ledger, kept = await Ledger.connect(database.dsn), conversation.ledger
    try:
        async with owner.transaction():
            await owner.execute("SET LOCAL deadlock_timeout = '20s'")  # so that the other one is the victim
            await owner.execute("SELECT FROM holdfast.chain FOR UPDATE")
            telling = asyncio.create_task(tell(conversation, decision))
            await until_locked_out(owner, 1)
            await owner.execute("UPDATE holdfast.approval SET tool = tool")
        await telling
    finally:
        await conversation.ledger.close()
        conversation.ledger = kept

    assert len(await conversation.entries(Kind.APPROVAL_DECIDED)) == 1
    assert (await conversation.ledger.reader.approvals(pending=False))[0].state == "approved"
