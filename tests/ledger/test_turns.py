"""A model turn as one transaction: transcript, branches, totals, the saga's commit."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from holdfast import ids
from holdfast.errors import HeadMissing
from holdfast.facts import Kind
from holdfast.states import EffectState, RecoveryClass, Tier
from holdfast_ledger.records import Granted, Incoming, Refused, Settled
from tests.ledger.conftest import Conversation

STRANGE = "nul \x00, half an emoji \ud83d, é, and \u2028"


def results_message(conversation: Conversation, content: list[dict[str, Any]]) -> Incoming:
    body = ids.canonical(content)
    digest = ids.digest(body)
    return Incoming(
        head=ids.next_head(conversation.head, digest),
        parent=conversation.head,
        role="results",
        digest=digest,
        turn=conversation.turn + 1,
        body=body,
    )


async def saga_state(conversation: Conversation) -> str:
    state = await conversation.owner.fetchval("SELECT state FROM holdfast.saga WHERE id = $1", conversation.saga_id)
    return str(state)


async def test_the_transcript_holds_what_was_said_along_its_branch(conversation: Conversation) -> None:
    await conversation.take_turn(content="first")
    fork, turn = conversation.head, conversation.turn
    await conversation.take_turn(content="the road taken")
    taken = conversation.head
    conversation.head, conversation.turn = fork, turn
    await conversation.take_turn(content="the other road")

    async def said(head: str) -> list[Any]:
        return [message.content for message in await conversation.transcript(head)]

    answers = [[{"type": "text", "text": f"turn {turn}"}] for turn in (1, 2)]
    assert await said(taken) == ["first", answers[0], "the road taken", answers[1]]
    assert await said(conversation.head) == ["first", answers[0], "the other road", answers[1]]
    assert await said(ids.first_head(conversation.session_id)) == []


@pytest.mark.parametrize("state", [None, EffectState.UNKNOWN])
async def test_a_turn_is_held_where_postgres_lacks_a_result_that_the_session_has_had(
    conversation: Conversation, state: EffectState | None
) -> None:
    call = conversation.planned_call()
    await conversation.take_turn(call)
    granted = await conversation.grant(call)
    if state is not None:
        await conversation.record(call, granted.token, state)
    told = replace(
        results_message(
            conversation, [{"tool_use_id": call.tool_use_id, "status": "ok", "effect_id": call.effect_id}]
        ),
        effects=(call.effect_id,),
    )
    claim = conversation.model_claim(told)
    refused = await conversation.ledger.claim(claim)
    assert isinstance(refused, Refused)
    assert refused.code == "head_missing"
    assert f"the result of effect {call.effect_id[:12]}" in refused.reason

    if state is None:  # Postgres is as new as the session again
        await conversation.record(call, granted.token, EffectState.DONE)
        assert isinstance(await conversation.ledger.claim(claim), Granted)


async def test_results_are_filled_in_from_the_effects_rows(conversation: Conversation) -> None:
    calls = [conversation.planned_call(f"tool_{number}") for number in range(3)]
    await conversation.take_turn(*calls)
    capped, failed, denied = calls
    granted = await conversation.grant(capped)
    await conversation.record(
        capped,
        granted.token,
        EffectState.DONE,
        result=b"x" * 50_000,
        shown=STRANGE.encode("utf-8", "surrogatepass"),
    )
    granted = await conversation.grant(failed)
    await conversation.record(failed, granted.token, EffectState.FAILED)
    references = [
        {"tool_use_id": capped.tool_use_id, "status": "ok", "effect_id": capped.effect_id},
        {"tool_use_id": failed.tool_use_id, "status": "error", "effect_id": failed.effect_id},
        {"tool_use_id": denied.tool_use_id, "status": "denied", "text": "no"},
    ]
    message = results_message(conversation, references)
    assert isinstance(await conversation.ledger.claim(conversation.model_claim(message)), Granted)

    transcript = await conversation.transcript(message.head)

    assert [each["text"] for each in transcript[-1].content] == [STRANGE, "attempt 1 says failed", "no"]
    assert await conversation.ledger.result(conversation.session_id, capped.call) == b"x" * 50_000
    assert await conversation.ledger.result(conversation.session_id, "9.9") is None


async def test_nul_and_lone_surrogates_survive_wherever_a_model_or_a_tool_may_write(
    conversation: Conversation,
) -> None:
    call = conversation.planned_call(
        f"tool{STRANGE}", args=ids.canonical({"q": STRANGE}), preview=STRANGE, tool_use_id=STRANGE
    )
    await conversation.take_turn(call, content=STRANGE, stop_reason=STRANGE, outcome={"text": STRANGE})
    granted = await conversation.grant(call)
    await conversation.record(call, granted.token, EffectState.DONE, outcome={"status": "ok", "text": STRANGE})

    transcript = await conversation.transcript(conversation.head)
    settled = await conversation.claim(call)

    assert transcript[0].content == STRANGE
    assert granted.args == ids.canonical({"q": STRANGE})
    assert isinstance(settled, Settled)
    assert settled.outcome["text"] == STRANGE


@pytest.mark.parametrize("lost", ["head", "body", "session"])
async def test_a_claim_on_a_transcript_that_is_not_there_is_refused_and_writes_nothing(
    conversation: Conversation, lost: str
) -> None:
    await conversation.take_turn()
    before = len(await conversation.entries())
    message = conversation.user_message("next")
    if lost == "head":
        conversation.head = "f" * 64
        message = conversation.user_message("next")
    elif lost == "body":
        message = replace(message, body=None)
    claim = conversation.model_claim(message)
    if lost == "session":
        claim = replace(claim, session_id="never-opened")

    refused = await conversation.ledger.claim(claim)

    assert isinstance(refused, Refused)
    assert refused.code == "head_missing"
    assert len(await conversation.entries()) == before
    with pytest.raises(HeadMissing):
        await conversation.transcript(message.head)


async def test_a_message_stored_by_digest_is_found_by_the_turn_that_names_it(conversation: Conversation) -> None:
    body = ids.canonical("stored before")
    digest = await conversation.ledger.store_message(conversation.session_id, body)
    assert await conversation.ledger.store_message(conversation.session_id, body) == digest
    message = replace(conversation.user_message("stored before"), body=None)

    assert isinstance(await conversation.ledger.claim(conversation.model_claim(message)), Granted)

    transcript = await conversation.transcript(message.head)
    assert [each.content for each in transcript] == ["stored before"]


async def test_a_retried_model_claim_appends_its_messages_once(conversation: Conversation) -> None:
    claim = conversation.model_claim(conversation.user_message())

    first = await conversation.ledger.claim(claim)
    second = await conversation.ledger.claim(replace(claim, nonce="another attempt"))

    assert isinstance(first, Granted)
    assert isinstance(second, Granted)
    assert (first.token, second.token) == (1, 2)
    assert await conversation.owner.fetchval("SELECT count(*) FROM holdfast.message") == 1
    stale = await conversation.ledger.record_turn(conversation.turn_record(claim, first.token))
    assert not stale.accepted


async def test_messages_with_a_gap_are_a_programming_error(conversation: Conversation) -> None:
    message = replace(conversation.user_message(), parent="f" * 64)
    with pytest.raises(ValueError, match="follows"):
        await conversation.ledger.claim(conversation.model_claim(message))


async def test_a_recorded_turn_is_answered_from_its_row_and_counted_once(conversation: Conversation) -> None:
    claim = conversation.model_claim(conversation.user_message())
    granted = await conversation.ledger.claim(claim)
    assert isinstance(granted, Granted)
    record = conversation.turn_record(claim, granted.token, conversation.planned_call())

    first = await conversation.ledger.record_turn(record)
    again = await conversation.ledger.record_turn(record)

    assert first.accepted
    assert first == again
    assert await conversation.ledger.claim(claim) == Settled(state=EffectState.DONE, outcome=dict(record.outcome))
    session = await conversation.ledger.reader.session(conversation.session_id)
    assert (session.turns, session.usage.total, session.usd) == (1, 15, Decimal("0.25"))
    assert len(await conversation.entries(Kind.MODEL_TURN)) == 1


async def test_an_unknown_price_makes_the_total_unknown_for_good(conversation: Conversation) -> None:
    await conversation.take_turn(usd=None)
    await conversation.take_turn()

    assert (await conversation.ledger.reader.session(conversation.session_id)).usd is None


async def test_the_last_turn_commits_its_requests_saga(conversation: Conversation) -> None:
    call = await conversation.plan(RecoveryClass.RETRY)
    granted = await conversation.grant(call)
    await conversation.record(call, granted.token, EffectState.DONE)

    recorded = await conversation.take_turn(commit_saga=True)

    assert recorded.committed
    assert await saga_state(conversation) == "COMMITTED"
    closed = (await conversation.entries(Kind.SAGA_CLOSED))[0]
    assert (closed["saga_id"], closed["outcome"]) == (conversation.saga_id, "COMMITTED")
    refused = await conversation.ledger.claim(conversation.model_claim(conversation.user_message("more")))
    assert isinstance(refused, Refused)
    assert refused.code == "saga_closed"


async def test_a_turn_that_committed_says_so_to_a_later_attempt(conversation: Conversation) -> None:
    claim = conversation.model_claim(conversation.user_message())
    granted = await conversation.ledger.claim(claim)
    assert isinstance(granted, Granted)
    await conversation.ledger.record_turn(conversation.turn_record(claim, granted.token, commit_saga=True))

    settled = await conversation.ledger.claim(claim)

    assert isinstance(settled, Settled)
    assert settled.outcome["committed"] is True


@pytest.mark.parametrize("unsettled", ["OPEN", "CLAIMED", "UNKNOWN"])
async def test_a_saga_with_an_unsettled_effect_is_not_committed(conversation: Conversation, unsettled: str) -> None:
    call = await conversation.plan()
    if unsettled != "OPEN":
        await conversation.grant(call)
    if unsettled == "UNKNOWN":
        await conversation.expire_lease(call)
        await conversation.claim(call)

    recorded = await conversation.take_turn(commit_saga=True)

    assert recorded.accepted
    assert not recorded.committed
    assert await saga_state(conversation) == "OPEN"


async def test_a_saga_in_another_epoch_is_not_committed(conversation: Conversation) -> None:
    claim = conversation.model_claim(conversation.user_message())
    granted = await conversation.ledger.claim(claim)
    assert isinstance(granted, Granted)
    await conversation.owner.execute("UPDATE holdfast.saga SET epoch = 2")

    recorded = await conversation.ledger.record_turn(
        conversation.turn_record(claim, granted.token, commit_saga=True)
    )

    assert recorded.accepted
    assert not recorded.committed


async def test_effects_remember_the_order_they_settled_in(conversation: Conversation) -> None:
    calls = [conversation.planned_call(tier=Tier.REVERSIBLE) for _ in range(4)]
    await conversation.take_turn(*calls)
    granted = await asyncio.gather(*(conversation.grant(call) for call in calls))
    for number in (2, 0, 3, 1):
        await conversation.record(calls[number], granted[number].token, EffectState.DONE)

    rows = await conversation.owner.fetch(
        "SELECT effect_id FROM holdfast.effect WHERE kind = 'call' ORDER BY settled_order DESC"
    )

    assert [row["effect_id"] for row in rows] == [calls[number].effect_id for number in (1, 3, 0, 2)]
