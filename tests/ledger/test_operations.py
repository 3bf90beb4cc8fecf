"""What people stop and settle: the switch, the circuit breaker, calls that mean the same, requests judged again."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from holdfast import ids
from holdfast.facts import Kind
from holdfast.guards import Breaker
from holdfast.states import EffectState, RecoveryClass, Tier
from holdfast_ledger import operations
from holdfast_ledger.errors import SessionIdReused
from holdfast_ledger.records import Granted, PlannedCall, Refused, Registration, Resolution, Settled
from holdfast_ledger.store import Ledger
from tests.conftest import Database
from tests.ledger.conftest import Conversation
from tests.waiting import until_locked_out

BREAKER = Breaker(failures=3, within=timedelta(minutes=1), open_for=timedelta(seconds=30))
DAY = timedelta(hours=24)


async def press(conversation: Conversation, tool: str = "refund") -> None:
    await operations.disable(conversation.ledger.database, tool, by="bo", reason="an incident")


async def fail(conversation: Conversation, call: PlannedCall, **changes: Any) -> None:
    granted = await conversation.grant(call, attempts=0)
    await conversation.record(
        call, granted.token, EffectState.OPEN, **{"failed": True, "breaker": BREAKER, **changes}
    )


async def test_no_claim_is_granted_once_the_switch_has_answered(
    database: Database, conversation: Conversation
) -> None:
    """A claim under way holds the switch back; what it was granted is then listed as running."""
    call = await conversation.plan()
    claimer = await Ledger.connect(database.dsn)
    conversation.ledger, kept = claimer, conversation.ledger
    try:
        async with conversation.owner.transaction():
            await conversation.owner.execute("SELECT FROM holdfast.chain FOR UPDATE")
            claiming = asyncio.create_task(conversation.claim(call))
            await until_locked_out(conversation.owner, 1)
            pressing = asyncio.create_task(
                operations.disable(kept.database, operations.ALL_WRITES, by="bo", reason="stop")
            )
            await until_locked_out(conversation.owner, 2)
        assert isinstance(await claiming, Granted)
        assert (await pressing).changed
        (running,) = await operations.running(kept.database, operations.ALL_WRITES)
        assert running.effect_id == call.effect_id
        later = await conversation.claim(await conversation.plan())
        assert isinstance(later, Refused)
        assert later.code == "disabled"
    finally:
        conversation.ledger = kept
        await claimer.close()


async def test_a_claim_that_waited_for_the_switch_sees_how_it_was_set(conversation: Conversation) -> None:
    call = await conversation.plan()
    async with conversation.owner.transaction():
        await conversation.owner.execute("LOCK TABLE holdfast.kill_switch IN ACCESS EXCLUSIVE MODE")
        claiming = asyncio.create_task(conversation.claim(call))
        await until_locked_out(conversation.owner, 1)
        await conversation.owner.execute("INSERT INTO holdfast.kill_switch VALUES ('refund', 'stop', 'bo')")

    assert isinstance(await claiming, Refused)


async def test_what_runs_when_its_tool_is_stopped_may_still_be_recorded(conversation: Conversation) -> None:
    call = await conversation.plan()
    granted = await conversation.grant(call)
    await press(conversation)

    assert await conversation.ledger.renew(call.effect_id, granted.token, timedelta(seconds=15))
    assert (await conversation.record(call, granted.token, EffectState.DONE)).accepted


async def test_a_lost_attempt_of_a_stopped_tool_is_unknown_and_not_sent_again(conversation: Conversation) -> None:
    call = await conversation.plan(RecoveryClass.IDEMPOTENT)
    await conversation.grant(call, key_ttl=DAY)
    await conversation.expire_lease(call)
    await press(conversation)

    settled = await conversation.claim(call, key_ttl=DAY)

    assert isinstance(settled, Settled)
    assert settled.state is EffectState.UNKNOWN


async def test_reads_go_on_when_all_writes_are_stopped(conversation: Conversation) -> None:
    await press(conversation, operations.ALL_WRITES)
    call = await conversation.plan(RecoveryClass.RETRY, tier=Tier.READ, tool="look")

    await conversation.grant(call)


async def test_who_stopped_a_tool_and_why_stands_in_a_chain_of_its_own(conversation: Conversation) -> None:
    await press(conversation)
    await operations.enable(conversation.ledger.database, "refund", by="eve", reason="fixed")
    assert not (await operations.enable(conversation.ledger.database, "refund", by="eve", reason="")).changed

    entries = await conversation.ledger.reader.timeline(operations.CHAIN)
    told = [(entry.kind, entry.actor, entry.tool, entry.body["reason"]) for entry in entries]
    assert told == [
        (Kind.TOOL_DISABLED, "bo", "refund", "an incident"),
        (Kind.TOOL_ENABLED, "eve", "refund", "fixed"),
    ]
    assert [each.id for each in await conversation.ledger.reader.sessions()] == [conversation.session_id]


async def test_no_session_can_be_the_chain_of_operations(ledger: Ledger) -> None:
    with pytest.raises(SessionIdReused, match="reserved"):
        await ledger.register(
            Registration(session_id=operations.CHAIN, agent="a", start_digest="0" * 64, requested_by="eve")
        )


async def test_so_many_failures_in_a_row_open_the_breaker_and_it_says_when_to_try_again(
    conversation: Conversation,
) -> None:
    call = await conversation.plan(RecoveryClass.RETRY)
    for _ in range(BREAKER.failures):
        await fail(conversation, call)

    refused = await conversation.claim(call, attempts=0)

    assert isinstance(refused, Refused)
    assert (refused.code, "try again in 30 s" in refused.reason) == ("breaker", True)
    assert refused.retry_after
    assert timedelta(seconds=25) < refused.retry_after <= BREAKER.open_for


async def test_a_success_starts_the_count_anew(conversation: Conversation) -> None:
    call = await conversation.plan(RecoveryClass.RETRY)
    for _ in range(BREAKER.failures - 1):
        await fail(conversation, call)
    await fail(conversation, call, failed=False)
    await fail(conversation, call)

    await conversation.grant(call, attempts=0)


async def test_failures_long_ago_do_not_count_and_those_right_after_an_opening_do(
    conversation: Conversation, owner: asyncpg.Connection
) -> None:
    call = await conversation.plan(RecoveryClass.RETRY)
    for _ in range(BREAKER.failures - 1):
        await fail(conversation, call)
    await owner.execute("UPDATE holdfast.breaker SET since = since - interval '2 minutes'")
    await fail(conversation, call)
    assert await owner.fetchval("SELECT failures FROM holdfast.breaker") == 1

    for _ in range(BREAKER.failures - 1):
        await fail(conversation, call)
    await owner.execute("UPDATE holdfast.breaker SET open_until = clock_timestamp()")
    await fail(conversation, call)

    assert isinstance(await conversation.claim(call, attempts=0), Refused)


async def test_a_tool_without_a_breaker_is_never_left_alone(conversation: Conversation) -> None:
    call = await conversation.plan(RecoveryClass.RETRY)
    for _ in range(10):
        await fail(conversation, call, breaker=None)

    await conversation.grant(call, attempts=0)


def same(meaning: str = "invoice 7") -> str:
    return ids.semantic_key("refund", "tenant", "", meaning)


@pytest.mark.parametrize(
    ("state", "forbids"),
    [(EffectState.DONE, True), (EffectState.UNKNOWN, True), (None, True), (EffectState.FAILED, False)],
)
async def test_what_stands_or_may_stand_forbids_the_same_again(
    conversation: Conversation, state: EffectState | None, forbids: bool
) -> None:
    first = await conversation.plan(semantic_key=same())
    granted = await conversation.grant(first, repeat_within=DAY)
    if state is not None:
        await conversation.record(first, granted.token, state)
    second = await conversation.plan(semantic_key=same())

    claimed = await conversation.claim(second, repeat_within=DAY)

    assert isinstance(claimed, Refused) is forbids
    if isinstance(claimed, Refused):
        assert (claimed.code, conversation.session_id in claimed.reason) == ("repeat", True)


async def test_the_same_is_allowed_after_its_window_by_a_person_or_with_another_meaning(
    conversation: Conversation, owner: asyncpg.Connection
) -> None:
    first = await conversation.plan(semantic_key=same())
    granted = await conversation.grant(first, repeat_within=DAY)
    await conversation.record(first, granted.token, EffectState.DONE)

    other = await conversation.plan(semantic_key=same("invoice 8"))
    await conversation.grant(other, repeat_within=DAY)
    allowed = await conversation.plan(semantic_key=same())
    await conversation.grant(allowed, repeat_within=DAY, repeat_allowed=True)
    await owner.execute("UPDATE holdfast.effect SET settled_at = settled_at - interval '25 h', state = 'DONE', "
                        "lease_until = NULL, first_claimed_at = first_claimed_at - interval '25 h' "
                        "WHERE semantic_key IS NOT NULL")  # fmt: skip
    late = await conversation.plan(semantic_key=same())
    await conversation.grant(late, repeat_within=DAY)


async def test_two_that_mean_the_same_and_are_claimed_at_once_give_one_grant(conversation: Conversation) -> None:
    calls = [conversation.planned_call(semantic_key=same()) for _ in range(4)]
    await conversation.take_turn(*calls)

    claims = await asyncio.gather(*(conversation.claim(call, repeat_within=DAY) for call in calls))

    assert len([claim for claim in claims if isinstance(claim, Granted)]) == 1


@pytest.mark.parametrize(("ended", "saga"), [("completed", "COMMITTED"), ("aborted", "HELD")])
async def test_a_request_that_ended_in_doubt_is_judged_again_when_the_doubt_is_settled(
    conversation: Conversation, owner: asyncpg.Connection, ended: str, saga: str
) -> None:
    call = await conversation.plan()
    granted = await conversation.grant(call)
    await conversation.record(call, granted.token, EffectState.UNKNOWN)
    closed = conversation.fact(Kind.REQUEST_CLOSED, "request:1", saga_id=conversation.saga_id, outcome=ended)
    await conversation.ledger.append(conversation.session_id, (closed,))
    assert await owner.fetchval("SELECT state FROM holdfast.saga") == "HELD"

    found = Resolution(
        id="r1",
        effect_id=call.effect_id,
        session_id=conversation.session_id,
        state=EffectState.OPEN,
        by="bo",
        reason="",
        outcome={"status": "ok"},
    )
    reopened = await conversation.ledger.resolve(found)
    assert (reopened.accepted, reopened.state) == (False, EffectState.UNKNOWN)  # nothing would run it

    settled = Resolution(**{**found.__dict__, "state": EffectState.DONE})
    assert (await conversation.ledger.resolve(settled)).accepted
    assert await owner.fetchval("SELECT state FROM holdfast.saga") == saga


async def test_a_request_that_ended_over_a_running_call_is_judged_again_when_it_lands(
    conversation: Conversation, owner: asyncpg.Connection
) -> None:
    call = await conversation.plan()
    granted = await conversation.grant(call)
    closed = conversation.fact(Kind.REQUEST_CLOSED, "request:1", saga_id=conversation.saga_id, outcome="completed")
    await conversation.ledger.append(conversation.session_id, (closed,))
    assert await owner.fetchval("SELECT state FROM holdfast.saga") == "HELD"

    assert (await conversation.record(call, granted.token, EffectState.DONE)).accepted

    assert await owner.fetchval("SELECT state FROM holdfast.saga") == "COMMITTED"
