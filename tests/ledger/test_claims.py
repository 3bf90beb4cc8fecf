"""The effect protocol: who may dispatch, and what a lost attempt permits."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from holdfast.facts import Kind
from holdfast.states import EffectState, RecoveryClass, Tier
from holdfast_ledger.records import Busy, Granted, PlannedCall, Refused, Settled
from holdfast_ledger.store import Ledger
from holdfast_ledger.verify import verify_session
from tests.conftest import Database
from tests.ledger.conftest import Conversation
from tests.waiting import until_locked_out


async def test_a_granted_call_gets_its_arguments_and_an_intent_entry_with_its_authorization(
    conversation: Conversation,
) -> None:
    call = await conversation.plan()

    granted = await conversation.grant(call)

    assert granted == Granted(token=1, attempt=1, args=call.args, probe=False)
    intent = (await conversation.entries(Kind.EFFECT_INTENT))[0]
    assert (intent["effect_id"], intent["token"], intent["args_digest"]) == (call.effect_id, 1, call.digest)
    assert b'"rule":"tier"' in intent["body"]


async def test_concurrent_claims_give_one_grant(database: Database, conversation: Conversation) -> None:
    call = await conversation.plan()
    conversation.ledger, kept = await Ledger.connect(database.dsn, min_size=8, max_size=8), conversation.ledger
    try:
        async with conversation.owner.transaction():
            await conversation.owner.execute("SELECT FROM holdfast.saga FOR UPDATE")
            claims = [asyncio.create_task(conversation.claim(call)) for _ in range(8)]
            await until_locked_out(conversation.owner, len(claims))
        results = await asyncio.gather(*claims)
    finally:
        await conversation.ledger.close()
        conversation.ledger = kept

    assert len([result for result in results if isinstance(result, Granted)]) == 1
    assert len([result for result in results if isinstance(result, Busy)]) == 7
    assert len(await conversation.entries(Kind.EFFECT_INTENT)) == 1


async def test_a_live_lease_says_when_to_ask_again(conversation: Conversation) -> None:
    call = await conversation.plan()
    await conversation.grant(call)

    busy = await conversation.claim(call)

    assert isinstance(busy, Busy)
    assert timedelta(seconds=10) < busy.retry_after <= timedelta(seconds=15)


async def test_a_retry_class_takes_the_next_token_at_once_and_the_old_one_is_refused(
    conversation: Conversation,
) -> None:
    call = await conversation.plan(RecoveryClass.RETRY)
    first = await conversation.grant(call)
    second = await conversation.grant(call)

    stale = await conversation.record(call, first.token, EffectState.DONE)
    assert (stale.accepted, stale.state, stale.outcome) == (False, EffectState.CLAIMED, None)
    assert not await conversation.ledger.renew(call.effect_id, first.token, timedelta(seconds=15))
    assert (await conversation.record(call, second.token, EffectState.DONE)).accepted

    attempts = await conversation.owner.fetch("SELECT token, state, reported FROM holdfast.attempt ORDER BY token")
    calls = [tuple(row) for row in attempts if row["state"] != "DONE" or row["token"] == 2]
    assert (1, "SUPERSEDED", "DONE") in calls


async def test_a_settled_effect_answers_with_what_was_recorded(conversation: Conversation) -> None:
    call = await conversation.plan()
    granted = await conversation.grant(call)
    await conversation.record(call, granted.token, EffectState.DONE)

    again = await conversation.claim(call)

    assert again == Settled(state=EffectState.DONE, outcome={"status": "ok", "text": "attempt 1 says done"})


async def test_another_fingerprint_is_a_conflict(conversation: Conversation) -> None:
    call = await conversation.plan()
    for state in ("open", "settled"):
        refused = await conversation.claim(replace(call, digest="other"))
        assert isinstance(refused, Refused), state
        assert refused.code == "conflict"
        if state == "open":
            granted = await conversation.grant(call)
            await conversation.record(call, granted.token, EffectState.DONE)


async def test_a_call_no_recorded_turn_planned_is_refused(conversation: Conversation) -> None:
    await conversation.take_turn()

    refused = await conversation.claim(conversation.planned_call())

    assert isinstance(refused, Refused)
    assert refused.code == "effect_missing"


@pytest.mark.parametrize(
    ("recovery", "probe"),
    [
        (RecoveryClass.RETRY, False),
        (RecoveryClass.IDEMPOTENT, False),
        (RecoveryClass.PROBE, True),
        (RecoveryClass.TRANSACTIONAL, False),
    ],
)
async def test_an_expired_lease_is_taken_over_where_the_class_permits(
    conversation: Conversation, recovery: RecoveryClass, probe: bool
) -> None:
    call = await conversation.plan(recovery)
    await conversation.grant(call)
    await conversation.expire_lease(call)

    granted = await conversation.grant(call, key_ttl=timedelta(hours=1))

    assert (granted.token, granted.attempt, granted.probe) == (2, 2, probe)


async def test_an_operators_lost_attempt_is_unknown_and_never_sent_again(conversation: Conversation) -> None:
    call = await conversation.plan(RecoveryClass.OPERATOR)
    await conversation.grant(call)
    await conversation.expire_lease(call)

    lost = await conversation.claim(call)

    assert isinstance(lost, Settled)
    assert lost.state is EffectState.UNKNOWN
    assert (lost.outcome["status"], lost.outcome["code"]) == ("unknown", "unknown")
    assert call.tool in lost.outcome["text"]
    assert await conversation.claim(call) == lost
    outcome = (await conversation.entries(Kind.EFFECT_OUTCOME))[0]
    assert (outcome["outcome"], outcome["token"]) == ("unknown", 1)


async def test_an_idempotent_call_is_unknown_once_the_service_may_have_forgotten_its_key(
    conversation: Conversation,
) -> None:
    call = await conversation.plan(RecoveryClass.IDEMPOTENT)
    await conversation.grant(call, key_ttl=timedelta(hours=24))
    await conversation.expire_lease(call)
    await conversation.owner.execute(
        "UPDATE holdfast.effect SET first_claimed_at = first_claimed_at - interval '25 hours' WHERE effect_id = $1",
        call.effect_id,
    )

    lost = await conversation.claim(call, key_ttl=timedelta(hours=24))

    assert isinstance(lost, Settled)
    assert lost.state is EffectState.UNKNOWN


async def test_a_renewed_lease_lives_longer(conversation: Conversation) -> None:
    call = await conversation.plan()
    granted = await conversation.grant(call)
    await conversation.expire_lease(call)

    assert await conversation.ledger.renew(call.effect_id, granted.token, timedelta(seconds=15))

    assert isinstance(await conversation.claim(call), Busy)


@pytest.mark.parametrize(
    ("tool", "tier", "refused"),
    [
        ("refund", Tier.IRREVERSIBLE, True),
        ("*", Tier.IRREVERSIBLE, True),
        ("*", Tier.READ, False),
        ("other", Tier.IRREVERSIBLE, False),
    ],
)
async def test_the_kill_switch_stops_the_next_dispatch(
    conversation: Conversation, tool: str, tier: Tier, refused: bool
) -> None:
    call = await conversation.plan(tier=tier)
    await conversation.owner.execute(
        "INSERT INTO holdfast.kill_switch (tool, reason, disabled_by) VALUES ($1, 'it doubles', 'ops')", tool
    )

    result = await conversation.claim(call)

    if refused:
        assert isinstance(result, Refused)
        assert result.code == "disabled"
        assert "it doubles" in result.reason
    else:
        assert isinstance(result, Granted)


@pytest.mark.parametrize("name", ["refund", "payments"])
async def test_an_open_breaker_says_when_to_ask_again(conversation: Conversation, name: str) -> None:
    call = await conversation.plan()
    await conversation.owner.execute(
        "INSERT INTO holdfast.breaker (name, failures, open_until) "
        "VALUES ($1, 5, clock_timestamp() + interval '30 seconds')",
        name,
    )

    refused = await conversation.claim(call, service="payments")

    assert isinstance(refused, Refused)
    assert refused.code == "breaker"
    assert refused.retry_after is not None
    assert timedelta(seconds=20) < refused.retry_after <= timedelta(seconds=30)
    await conversation.owner.execute("UPDATE holdfast.breaker SET open_until = clock_timestamp()")
    await conversation.grant(call, service="payments")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("epoch = 2", "epoch"),
        ("state = 'UNWINDING', epoch = 2", "saga_closed"),
        ("state = 'COMMITTED'", "saga_closed"),
    ],
)
async def test_a_claim_is_fenced_by_its_saga(conversation: Conversation, change: str, code: str) -> None:
    call = await conversation.plan()
    done = conversation.planned_call()
    await conversation.take_turn(done)
    granted = await conversation.grant(done)
    await conversation.record(done, granted.token, EffectState.DONE)
    await conversation.owner.execute(f"UPDATE holdfast.saga SET {change}")

    refused = await conversation.claim(call)

    assert isinstance(refused, Refused)
    assert refused.code == code
    assert isinstance(await conversation.claim(done), Settled)


@pytest.mark.parametrize("recovery", list(RecoveryClass))
async def test_a_claim_whose_answer_was_lost_is_the_same_grant_when_asked_again(
    conversation: Conversation, recovery: RecoveryClass
) -> None:
    call = await conversation.plan(recovery)
    claim = conversation.call_claim(call)
    first = await conversation.ledger.claim(claim)
    await conversation.expire_lease(call)

    assert await conversation.ledger.claim(claim) == first

    assert isinstance(first, Granted)
    assert len(await conversation.entries(Kind.EFFECT_INTENT)) == 1
    assert isinstance(await conversation.claim(call), Granted if recovery is RecoveryClass.RETRY else Busy)


async def test_many_calls_at_once_with_one_outbox_keep_one_whole_chain(conversation: Conversation) -> None:
    calls = [conversation.planned_call(recovery=RecoveryClass.IDEMPOTENT) for _ in range(24)]
    await conversation.take_turn(*calls)
    outbox = tuple(
        conversation.fact(Kind.COMMAND_RECEIVED, f"command/{number}", actor="ana", outcome="interrupt")
        for number in range(3)
    )

    async def run(call: PlannedCall) -> None:
        granted = await conversation.grant(call, outbox=outbox)
        await conversation.record(call, granted.token, EffectState.DONE)

    async with asyncio.timeout(20):
        await asyncio.gather(*(run(call) for call in calls))

    assert len(await conversation.entries(Kind.COMMAND_RECEIVED)) == 3
    assert len(await conversation.entries(Kind.EFFECT_OUTCOME)) == 24
    assert (await verify_session(conversation.ledger.database, conversation.session_id)).ok


async def test_it_all_works_without_prepared_statements(database: Database, conversation: Conversation) -> None:
    conversation.ledger, kept = await Ledger.connect(database.dsn, pgbouncer=True), conversation.ledger
    try:
        call = await conversation.plan()
        granted = await conversation.grant(call)
        assert (await conversation.record(call, granted.token, EffectState.DONE)).accepted
        assert len(await conversation.ledger.transcript(conversation.session_id, conversation.head)) == 2
    finally:
        await conversation.ledger.close()
        conversation.ledger = kept
