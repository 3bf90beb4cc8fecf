"""The effect protocol: who may dispatch, and what a lost attempt permits."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from holdfast.facts import Kind
from holdfast.states import EffectState, RecoveryClass, Tier
from holdfast_ledger.errors import EffectMissing
from holdfast_ledger.records import Busy, Granted, PlannedCall, Record, Refused, Resolution, Settled
from holdfast_ledger.store import Ledger
from holdfast_ledger.verify import verify_session
from tests.conftest import Database
from tests.ledger.conftest import Conversation

IN_DOUBT = (RecoveryClass.IDEMPOTENT, RecoveryClass.PROBE, RecoveryClass.OPERATOR)


async def test_a_granted_call_gets_its_arguments_and_an_intent_entry_with_its_authorization(
    conversation: Conversation,
) -> None:
    call = await conversation.plan()

    granted = await conversation.grant(call)

    assert granted == Granted(token=1, attempt=1, args=call.args, probe=False)
    intent = (await conversation.entries(Kind.EFFECT_INTENT))[0]
    assert (intent["effect_id"], intent["token"], intent["args_digest"]) == (call.effect_id, 1, call.digest)
    assert b'"rule":"tier"' in intent["body"]


async def test_concurrent_claims_give_one_grant(conversation: Conversation) -> None:
    call = await conversation.plan()

    results = await asyncio.gather(*(conversation.claim(call) for _ in range(10)))

    assert len([result for result in results if isinstance(result, Granted)]) == 1
    assert len([result for result in results if isinstance(result, Busy)]) == 9
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


async def test_the_late_report_of_an_expired_attempt_counts_while_nobody_took_over(
    conversation: Conversation,
) -> None:
    call = await conversation.plan()
    granted = await conversation.grant(call)
    await conversation.expire_lease(call)

    assert (await conversation.record(call, granted.token, EffectState.DONE)).accepted


async def test_a_late_report_of_an_unknown_effect_is_kept_as_evidence_and_changes_nothing(
    conversation: Conversation,
) -> None:
    call = await conversation.plan()
    granted = await conversation.grant(call)
    await conversation.expire_lease(call)
    await conversation.claim(call)

    for _ in range(2):
        late = await conversation.record(call, granted.token, EffectState.DONE, evidence={"id": "re_7"})
        assert not late.accepted
        assert late.outcome is not None
        assert late.outcome["status"] == "unknown"

    assert [entry["outcome"] for entry in await conversation.entries(Kind.EFFECT_OUTCOME)] == [
        "unknown",
        "late_done",
    ]


async def test_an_effect_cancelled_under_a_running_attempt_is_recorded_as_landed_late(
    conversation: Conversation,
) -> None:
    call = await conversation.plan()
    granted = await conversation.grant(call)
    await conversation.owner.execute(
        "UPDATE holdfast.effect SET state = 'CANCELLED', lease_until = NULL WHERE effect_id = $1", call.effect_id
    )
    assert not await conversation.ledger.renew(call.effect_id, granted.token, timedelta(seconds=15))

    late = await conversation.record(call, granted.token, EffectState.DONE)

    assert (late.accepted, late.state) == (True, EffectState.DONE)
    assert (await conversation.entries(Kind.EFFECT_OUTCOME))[0]["outcome"] == "landed_late"


async def test_a_clean_transient_failure_releases_the_lease_and_its_last_one_is_final(
    conversation: Conversation,
) -> None:
    call = await conversation.plan()
    for attempt in (1, 2):
        granted = await conversation.grant(call)
        assert granted.attempt == attempt
        recorded = await conversation.record(call, granted.token, EffectState.OPEN)
        assert (recorded.accepted, recorded.state, recorded.outcome) == (True, EffectState.OPEN, None)

    granted = await conversation.grant(call)
    last = await conversation.record(call, granted.token, EffectState.OPEN)

    assert last.state is EffectState.FAILED
    assert last.outcome == {"status": "error", "text": "attempt 3 says open"}
    assert await conversation.claim(call) == Settled(state=EffectState.FAILED, outcome=last.outcome)


async def test_a_release_before_dispatch_uses_up_no_attempt(conversation: Conversation) -> None:
    call = await conversation.plan()
    for _ in range(5):
        granted = await conversation.grant(call, attempts=2)
        await conversation.record(call, granted.token, EffectState.OPEN, dispatched=False)

    assert (await conversation.grant(call, attempts=2)).attempt == 1


@pytest.mark.parametrize("recovery", [RecoveryClass.RETRY, RecoveryClass.TRANSACTIONAL])
async def test_a_used_up_budget_is_failed_where_no_attempt_can_have_landed(
    conversation: Conversation, recovery: RecoveryClass
) -> None:
    call = await conversation.plan(recovery)
    for _ in range(2):
        await conversation.grant(call, attempts=2)
        await conversation.expire_lease(call)

    given_up = await conversation.claim(call, attempts=2)

    assert isinstance(given_up, Settled)
    assert given_up.state is EffectState.FAILED
    assert "2 times" in given_up.outcome["text"]


async def test_a_used_up_budget_is_unknown_where_an_attempt_may_have_landed(conversation: Conversation) -> None:
    call = await conversation.plan(RecoveryClass.IDEMPOTENT)
    await conversation.grant(call, attempts=2)
    await conversation.expire_lease(call)
    granted = await conversation.grant(call, attempts=2)

    last = await conversation.record(call, granted.token, EffectState.OPEN)

    assert last.state is EffectState.UNKNOWN
    assert last.outcome is not None
    assert last.outcome["status"] == "unknown"


async def test_a_live_last_attempt_is_waited_for_even_by_a_retry_class(conversation: Conversation) -> None:
    call = await conversation.plan(RecoveryClass.RETRY)
    await conversation.grant(call, attempts=1)

    assert isinstance(await conversation.claim(call, attempts=1), Busy)


@pytest.mark.parametrize("recovery", IN_DOUBT)
async def test_an_attempt_that_reports_its_own_doubt_is_treated_like_a_lost_one(
    conversation: Conversation, recovery: RecoveryClass
) -> None:
    call = await conversation.plan(recovery)
    granted = await conversation.grant(call)
    await conversation.record(call, granted.token, EffectState.OPEN, doubt=True)

    after = await conversation.claim(call)

    if recovery is RecoveryClass.OPERATOR:
        assert isinstance(after, Settled)
        assert after.state is EffectState.UNKNOWN
    else:
        assert isinstance(after, Granted)
        assert after.probe is (recovery is RecoveryClass.PROBE)


async def test_the_same_record_again_is_accepted_again_and_written_once(conversation: Conversation) -> None:
    call = await conversation.plan()
    granted = await conversation.grant(call)

    first = await conversation.record(call, granted.token, EffectState.DONE)
    again = await conversation.record(call, granted.token, EffectState.DONE)

    assert first == again
    assert len(await conversation.entries(Kind.EFFECT_OUTCOME)) == 1
    assert await conversation.owner.fetchval("SELECT calls FROM holdfast.session") == 1


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
        "INSERT INTO holdfast.breaker VALUES ($1, clock_timestamp() + interval '30 seconds')", name
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


async def test_a_transactional_tool_lands_with_its_record_or_not_at_all(conversation: Conversation) -> None:
    call = await conversation.plan(RecoveryClass.TRANSACTIONAL)
    await conversation.owner.execute("CREATE TABLE public.booking (id int); GRANT ALL ON public.booking TO PUBLIC")
    old = await conversation.grant(call)
    await conversation.expire_lease(call)
    new = await conversation.grant(call)

    async def run(token: int) -> bool:
        record = Record(
            effect_id=call.effect_id,
            session_id=conversation.session_id,
            token=token,
            state=EffectState.DONE,
            outcome={"status": "ok"},
        )
        try:
            async with conversation.ledger.transaction() as connection:
                await connection.execute("INSERT INTO public.booking VALUES ($1)", token)
                if not (await conversation.ledger.record_within(connection, record)).accepted:
                    raise LookupError
        except LookupError:
            return False
        return True

    assert [await run(old.token), await run(new.token)] == [False, True]
    assert [row["id"] for row in await conversation.owner.fetch("SELECT id FROM public.booking")] == [new.token]


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


@pytest.mark.parametrize("state", [EffectState.DONE, EffectState.FAILED, EffectState.OPEN])
async def test_doubt_is_settled_once_by_who_found_out(conversation: Conversation, state: EffectState) -> None:
    call = await conversation.plan()
    granted = await conversation.grant(call, attempts=1)
    await conversation.record(call, granted.token, EffectState.UNKNOWN)
    found = Resolution(
        id="r1",
        effect_id=call.effect_id,
        session_id=conversation.session_id,
        state=state,
        by="bo",
        reason="asked the bank",
        outcome={"status": "ok", "text": "bo checked"},
    )

    first = await conversation.ledger.resolve(found)
    again = await conversation.ledger.resolve(found)

    assert first.accepted
    assert first == again
    assert first.state is state
    entries = await conversation.entries(Kind.EFFECT_RESOLVED)
    assert [(entry["actor"], entry["outcome"]) for entry in entries] == [("bo", state.lower())]
    assert not (await conversation.ledger.resolve(replace(found, id="r2", by="eve"))).accepted
    if state is EffectState.OPEN:
        assert (await conversation.grant(call, attempts=1)).attempt == 1
    else:
        assert await conversation.claim(call) == Settled(state=state, outcome=dict(found.outcome))


async def test_an_effect_that_is_not_in_doubt_is_not_resolved(conversation: Conversation) -> None:
    call = await conversation.plan()
    found = Resolution(
        id="r1",
        effect_id=call.effect_id,
        session_id=conversation.session_id,
        state=EffectState.DONE,
        by="bo",
        reason="",
        outcome={},
    )
    assert not (await conversation.ledger.resolve(found)).accepted
    with pytest.raises(EffectMissing):
        await conversation.ledger.resolve(replace(found, effect_id="none"))


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
