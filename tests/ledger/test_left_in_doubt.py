"""Doubt that a request leaves behind is found and settled like any other; nobody's "try again" makes it vanish."""

from __future__ import annotations

import asyncpg
import pytest

from holdfast import ids
from holdfast.facts import Kind
from holdfast.states import EffectState, RecoveryClass, SagaState
from holdfast_ledger.records import Granted, PlannedCall, Resolution
from holdfast_ledger.standing import read_standing
from tests.conftest import Database
from tests.ledger.conftest import LEASE, Conversation

DONE, OPEN, UNKNOWN = EffectState.DONE, EffectState.OPEN, EffectState.UNKNOWN


async def close_request(conversation: Conversation) -> None:
    closed = conversation.fact(
        Kind.REQUEST_CLOSED, "closed", saga_id=conversation.saga_id, outcome="completed", body={"reason": "enough"}
    )
    await conversation.ledger.append(conversation.session_id, (closed,))


async def doubtful(conversation: Conversation) -> list[str]:
    found = await conversation.ledger.reader.effects(states=[UNKNOWN])
    assert all(each.state is UNKNOWN for each in found)
    return [each.effect_id for each in found]


def found_out(conversation: Conversation, call: PlannedCall, state: EffectState) -> Resolution:
    return Resolution(
        id=f"r-{state}",
        effect_id=call.effect_id,
        session_id=conversation.session_id,
        state=state,
        by="bo",
        reason="looked it up",
        outcome={"status": "ok"},
    )


@pytest.mark.parametrize("lost", [True, False], ids=["its worker was lost", "it was released in doubt"])
async def test_doubt_that_a_request_leaves_behind_is_listed_counted_and_settled(
    conversation: Conversation, lost: bool
) -> None:
    call = await conversation.plan(RecoveryClass.IDEMPOTENT)
    granted = await conversation.grant(call)
    if not lost:
        await conversation.record(call, granted.token, OPEN, doubt=True)
    await close_request(conversation)
    assert (await doubtful(conversation) == []) is lost  # the lease may still be alive
    if lost:
        await conversation.expire_lease(call)

    assert await doubtful(conversation) == [call.effect_id]
    (saga,) = await conversation.ledger.reader.sagas(session_id=conversation.session_id)
    assert (saga.state, saga.unknown) == (SagaState.HELD, 1)
    assert (await read_standing(conversation.ledger.database)).effects_unknown == 1

    assert (await conversation.ledger.resolve(found_out(conversation, call, DONE))).accepted

    assert await doubtful(conversation) == []
    assert (await conversation.ledger.reader.effect(call.effect_id)).state is DONE
    late = await conversation.record(call, granted.token, EffectState.FAILED)
    assert not late.accepted


async def test_what_still_may_be_claimed_is_not_listed_as_unknown(conversation: Conversation) -> None:
    call = await conversation.plan(RecoveryClass.IDEMPOTENT)
    granted = await conversation.grant(call)
    await conversation.record(call, granted.token, OPEN, doubt=True)

    assert await doubtful(conversation) == []
    assert not (await conversation.ledger.resolve(found_out(conversation, call, DONE))).accepted


async def unknown_write(conversation: Conversation) -> PlannedCall:
    call = await conversation.plan()
    granted = await conversation.grant(call)
    await conversation.record(call, granted.token, UNKNOWN)
    return call


async def test_a_retry_that_races_with_the_end_of_its_request_leaves_the_doubt(conversation: Conversation) -> None:
    call = await unknown_write(conversation)
    assert (await conversation.ledger.resolve(found_out(conversation, call, OPEN))).accepted

    await close_request(conversation)  # before anybody claimed it

    assert await doubtful(conversation) == [call.effect_id]


async def test_a_retry_permits_one_attempt_and_forgets_nothing_of_those_before(conversation: Conversation) -> None:
    call = await unknown_write(conversation)
    assert (await conversation.ledger.resolve(found_out(conversation, call, OPEN))).accepted

    again = await conversation.claim(call)
    assert isinstance(again, Granted)
    await conversation.expire_lease(call)
    await conversation.claim(
        call
    )  # its worker was lost once more, and nobody said that it may be sent a third time

    assert (await conversation.effect(call))["state"] == UNKNOWN


async def test_a_permitted_attempt_that_fails_cleanly_does_not_answer_for_the_first(
    conversation: Conversation,
) -> None:
    call = await unknown_write(conversation)
    await conversation.ledger.resolve(found_out(conversation, call, OPEN))
    again = await conversation.grant(call)

    recorded = await conversation.record(call, again.token, EffectState.FAILED)

    assert recorded.state is UNKNOWN


async def test_the_key_that_is_shown_is_the_one_in_use(conversation: Conversation) -> None:
    call = await conversation.plan(RecoveryClass.PROBE)
    granted = await conversation.grant(call)
    before = await conversation.ledger.reader.effect(call.effect_id)
    await conversation.ledger.refuse_key(call.effect_id, granted.token, LEASE)

    after = await conversation.ledger.reader.effect(call.effect_id)

    assert (before.idempotency_key, after.idempotency_key) == (call.effect_id, f"{call.effect_id}:1")


async def test_what_calls_mean_cannot_be_guessed_from_the_ledger(
    conversation: Conversation, database: Database
) -> None:
    bare = ids.semantic_key("refund", "tenant", "", "invoice 7")
    calls = [await conversation.plan(semantic_key=bare) for _ in range(2)]

    kept = {(await conversation.effect(call))["semantic_key"] for call in calls}

    assert len(kept) == 1
    assert bare not in kept
    worker = await asyncpg.connect(database.dsn)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await worker.fetch("SELECT salt FROM holdfast.semantic_salt")
    await worker.close()
