"""The effect protocol: how an attempt ends, when its report counts, and how doubt is settled."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from holdfast.facts import Kind
from holdfast.states import EffectState, RecoveryClass
from holdfast_ledger.errors import EffectMissing
from holdfast_ledger.records import Busy, Granted, Record, Resolution, Settled
from tests.ledger.conftest import Conversation

IN_DOUBT = (RecoveryClass.IDEMPOTENT, RecoveryClass.PROBE, RecoveryClass.OPERATOR)


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


async def test_a_budget_that_ends_cleanly_is_unknown_where_an_earlier_attempt_may_have_landed(
    conversation: Conversation,
) -> None:
    call = await conversation.plan(RecoveryClass.IDEMPOTENT)
    await conversation.grant(call, attempts=2)
    await conversation.expire_lease(call)
    granted = await conversation.grant(call, attempts=2)

    last = await conversation.record(call, granted.token, EffectState.OPEN)

    assert last.state is EffectState.UNKNOWN
    assert last.outcome is not None
    assert last.outcome["status"] == "unknown"


async def test_a_budget_that_ends_with_a_lost_attempt_is_unknown(conversation: Conversation) -> None:
    call = await conversation.plan(RecoveryClass.PROBE)
    for _ in range(2):
        await conversation.grant(call, attempts=2)
        await conversation.expire_lease(call)

    given_up = await conversation.claim(call, attempts=2)

    assert isinstance(given_up, Settled)
    assert given_up.state is EffectState.UNKNOWN


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
