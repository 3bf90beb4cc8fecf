"""A refused claim denies the call only where nothing of it was sent; a breaker counts for the whole service."""

from __future__ import annotations

from datetime import timedelta

import asyncpg

from holdfast.facts import Kind
from holdfast.guards import Breaker
from holdfast.states import EffectState, RecoveryClass
from holdfast_ledger import operations
from holdfast_ledger.records import Busy, Granted, PlannedCall, Refused, Settled
from tests.ledger.conftest import Conversation

BREAKER = Breaker(failures=2, within=timedelta(minutes=1), open_for=timedelta(seconds=30))


async def deny(conversation: Conversation, call: PlannedCall) -> None:
    """What a worker tells the ledger of a call that was refused for good."""
    fact = conversation.fact(
        Kind.CALL_DECIDED, f"refused:{call.call}", call=call.call, effect_id=call.effect_id, outcome="denied"
    )
    await conversation.ledger.append(conversation.session_id, (fact,))


async def fail(conversation: Conversation, tool: str, service: str) -> None:
    call = await conversation.plan(RecoveryClass.RETRY, tool=tool)
    granted = await conversation.grant(call)
    await conversation.record(call, granted.token, EffectState.OPEN, failed=True, breaker=BREAKER, service=service)


async def test_an_effect_in_doubt_waits_for_the_breaker_and_is_not_refused(
    conversation: Conversation, owner: asyncpg.Connection
) -> None:
    call = await conversation.plan(RecoveryClass.IDEMPOTENT)
    await conversation.grant(call)
    await conversation.expire_lease(call)
    await owner.execute(
        "INSERT INTO holdfast.breaker (name, failures, open_until)"
        " VALUES ($1, 3, clock_timestamp() + interval '20 seconds')",
        call.tool,
    )

    waits = await conversation.claim(call)

    assert isinstance(waits, Busy)
    assert timedelta(seconds=10) < waits.retry_after <= timedelta(seconds=20)
    assert (await conversation.effect(call))["state"] == "CLAIMED"
    await owner.execute("DELETE FROM holdfast.breaker")
    assert isinstance(await conversation.claim(call), Granted)


async def test_a_stopped_read_whose_attempt_was_lost_can_be_denied(conversation: Conversation) -> None:
    call = await conversation.plan(RecoveryClass.RETRY)
    lost = await conversation.grant(call)
    await conversation.expire_lease(call)
    await operations.disable(conversation.ledger.database, call.tool, by="bo", reason="an incident")

    refused = await conversation.claim(call)
    assert isinstance(refused, Refused)
    await deny(conversation, call)

    settled = await conversation.claim(call)
    assert isinstance(settled, Settled)
    assert settled.state is EffectState.CANCELLED
    late = await conversation.record(call, lost.token, EffectState.FAILED)
    assert not late.accepted


async def test_tools_of_one_service_fail_together_and_are_left_alone_together(conversation: Conversation) -> None:
    await fail(conversation, "refund", "payments")
    await fail(conversation, "charge", "payments")
    await fail(conversation, "look_up", "bookings")

    paid = await conversation.claim(await conversation.plan(tool="payout"), service="payments")
    assert isinstance(paid, Refused)
    assert (paid.code, "payments failed 2 times" in paid.reason) == ("breaker", True)
    await conversation.grant(await conversation.plan(tool="look_up"), service="bookings")

    closed = await operations.enable(conversation.ledger.database, "payments", by="bo", reason="they are back")
    assert closed.changed
    await conversation.grant(await conversation.plan(tool="payout"), service="payments")
