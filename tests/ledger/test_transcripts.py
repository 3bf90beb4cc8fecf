"""A worker reads no message that it wrote itself or has read before, and is never wrong about what others added."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from holdfast import ids
from holdfast.states import EffectState, RecoveryClass
from holdfast_ledger.errors import ContentErased
from holdfast_ledger.master_keys import MasterKeys
from holdfast_ledger.privacy import erase
from holdfast_ledger.records import Closing, Granted, Incoming, PlannedCall, Resolution
from holdfast_ledger.store import Ledger
from tests.conftest import Database
from tests.ledger.conftest import START, Conversation

Read = Counter[str]


@pytest.fixture
def read(conversation: Conversation, monkeypatch: pytest.MonkeyPatch) -> Read:
    """How many rows of messages and results were fetched."""
    counts: Read = Counter()
    rows = conversation.ledger.database.rows

    async def counted(name: str, *arguments: Any) -> list[asyncpg.Record]:
        found = await rows(name, *arguments)
        if name in ("transcript", "shown_results"):
            counts[name] += len(found)
        return found

    monkeypatch.setattr(conversation.ledger.database, "rows", counted)
    return counts


@pytest.fixture
async def other(database: Database) -> AsyncIterator[Ledger]:
    """Another worker."""
    ledger = await Ledger.connect(database.dsn)
    yield ledger
    await ledger.close()


async def said(conversation: Conversation, ledger: Ledger | None = None) -> list[Any]:
    messages = await (ledger or conversation.ledger).transcript(conversation.session_id, conversation.head)
    return [message.content if message.role == "user" else message.role for message in messages]


async def call(conversation: Conversation, *, result: bytes | None = b'"fine"', **changes: Any) -> PlannedCall:
    """A turn with one call, which is carried out."""
    planned = await conversation.plan(RecoveryClass.RETRY)
    granted = await conversation.grant(planned)
    changes = {"state": EffectState.DONE, "result": result, **changes}
    recorded = await conversation.record(planned, granted.token, **changes)
    assert recorded.accepted
    return planned


def results(conversation: Conversation, *calls: PlannedCall) -> Incoming:
    references = [{"tool_use_id": each.tool_use_id, "status": "ok", "effect_id": each.effect_id} for each in calls]
    message = conversation.user_message(references)
    return replace(message, role="results")


async def told(conversation: Conversation, *incoming: Incoming) -> list[Any]:
    """What the model is sent by a turn that brings these messages: here, and as another worker would read it."""
    assert isinstance(await conversation.ledger.claim(conversation.model_claim(*incoming)), Granted)
    return [message.content for message in await conversation.ledger.transcript("trip-1", incoming[-1].head)]


async def test_a_turn_on_the_same_worker_reads_nothing(conversation: Conversation, read: Read) -> None:
    done = await call(conversation, shown=b"fine, and more is kept")
    for _ in range(3):
        message, next_call = results(conversation, done), conversation.planned_call()
        content = (await told(conversation, message))[-1]
        assert content == [{"tool_use_id": done.tool_use_id, "status": "ok", "text": "fine, and more is kept"}]
        turn = conversation.turn_record(conversation.model_claim(message), 1, next_call)
        assert (await conversation.ledger.record_turn(turn)).accepted
        conversation.turn, conversation.head, done = turn.turn, turn.next_head, next_call
        granted = await conversation.grant(done)
        await conversation.record(
            done, granted.token, EffectState.DONE, result=b"1", shown=b"fine, and more is kept"
        )
    assert not read
    assert len(await conversation.transcript(conversation.head)) == 8


@pytest.mark.parametrize(
    "told_as",
    [
        {"result": b'"\\ud83d"', "shown": None},
        {"shown": "caf\N{LATIN SMALL LETTER E WITH ACUTE} \ud83d".encode("utf-8", "surrogatepass")},
        {"state": EffectState.FAILED, "result": None},
    ],
    ids=["whole", "cut", "failed"],
)
async def test_a_result_is_remembered_as_it_is_read(
    conversation: Conversation, read: Read, told_as: dict[str, Any]
) -> None:
    message = results(conversation, await call(conversation, **told_as))
    await told(conversation, message)
    assert not read
    await conversation.transcript(message.head)


async def test_what_is_not_settled_for_good_is_read_when_it_is_needed(conversation: Conversation) -> None:
    doubtful = await call(conversation, state=EffectState.UNKNOWN, result=None)
    found = Resolution(
        id="r1",
        effect_id=doubtful.effect_id,
        session_id=conversation.session_id,
        state=EffectState.DONE,
        by="ann",
        reason="the bank says so",
        outcome={"status": "ok", "text": "it did happen"},
    )
    await conversation.ledger.resolve(found)
    message = results(conversation, doubtful)
    assert (await told(conversation, message))[-1][0]["text"] == "it did happen"


async def test_a_result_of_another_worker_is_read(conversation: Conversation, other: Ledger, read: Read) -> None:
    here, there = conversation.planned_call(), conversation.planned_call()
    await conversation.take_turn(here, there)
    await conversation.record(here, (await conversation.grant(here)).token, EffectState.DONE, result=b'"here"')
    elsewhere = replace(conversation, ledger=other)
    await elsewhere.record(there, (await elsewhere.grant(there)).token, EffectState.DONE, result=b'"there"')
    message = results(conversation, here, there)
    assert [each["text"] for each in (await told(conversation, message))[-1]] == ['"here"', '"there"']
    assert read == {"transcript": 1, "shown_results": 1}, "nothing but what was done elsewhere"
    await conversation.transcript(message.head)


async def test_a_record_that_lost_is_not_remembered(conversation: Conversation) -> None:
    planned = await conversation.plan(RecoveryClass.RETRY)
    first = await conversation.grant(planned)
    elsewhere = replace(conversation, ledger=conversation.another_worker)
    second = await elsewhere.grant(planned)
    await elsewhere.record(planned, second.token, EffectState.DONE, result=b'"of the one that stands"')
    lost = await conversation.record(planned, first.token, EffectState.DONE, result=b'"of the one that lost"')
    assert not lost.accepted
    message = results(conversation, planned)
    assert (await told(conversation, message))[-1][0]["text"] == '"of the one that stands"'
    await conversation.transcript(message.head)


async def test_an_answer_that_lost_is_not_remembered(conversation: Conversation) -> None:
    claim = conversation.model_claim(conversation.user_message())
    for attempt in (claim, replace(claim, nonce="second")):
        assert isinstance(await conversation.ledger.claim(attempt), Granted)
    body = ids.canonical([{"type": "text", "text": "another answer"}])
    lost = conversation.turn_record(claim, 1, body=body, digest=ids.digest(body))
    lost = replace(lost, next_head=ids.next_head(lost.head, lost.digest))
    assert not (await conversation.ledger.record_turn(lost)).accepted
    stands = conversation.turn_record(claim, 2)
    assert (await conversation.ledger.record_turn(stands)).accepted
    assert await conversation.transcript(stands.next_head)


async def test_a_message_that_a_client_stored_is_read_once(conversation: Conversation, read: Read) -> None:
    body = ids.canonical("stored before")
    await conversation.ledger.store_message(conversation.session_id, body)
    message = replace(conversation.user_message("stored before"), body=None)
    for _ in range(2):
        assert await told(conversation, message) == ["stored before"]
    assert read == {"transcript": 1}


async def test_what_another_worker_recorded_is_read(conversation: Conversation, other: Ledger, read: Read) -> None:
    await conversation.take_turn(content="one")
    elsewhere = replace(conversation, ledger=other)
    for content in ("two", "three"):
        await elsewhere.take_turn(content=content)
    conversation.head, conversation.turn = elsewhere.head, elsewhere.turn
    assert await said(conversation) == ["one", "assistant", "two", "assistant", "three", "assistant"]
    assert read == {"transcript": 4}, "from where it knows the branch"
    await conversation.take_turn(content="four")
    assert (await said(conversation))[-2:] == ["four", "assistant"]
    assert read == {"transcript": 4}
    await conversation.transcript(conversation.head)


async def test_after_a_reset_the_other_branch_is_read_whole_and_nothing_of_the_first_is_left(
    conversation: Conversation, read: Read
) -> None:
    await conversation.take_turn(content="one")
    fork, turn = conversation.head, conversation.turn
    await conversation.take_turn(content="the road taken")
    conversation.head, conversation.turn = fork, turn
    await conversation.take_turn(content="the other road")
    assert await said(conversation) == ["one", "assistant", "the other road", "assistant"]
    assert read == {"transcript": 4}
    await conversation.take_turn(content="and on")
    assert (await said(conversation))[2:] == ["the other road", "assistant", "and on", "assistant"]
    assert read == {"transcript": 4}
    await conversation.transcript(conversation.head)


async def test_no_more_is_kept_than_the_capacity_and_the_least_used_goes_first(conversation: Conversation) -> None:
    cache = conversation.ledger._transcripts
    cache.capacity = 200
    await conversation.take_turn(content="x" * 150)
    first = conversation.session_id
    conversation.session_id = "another"
    await conversation.open()
    await conversation.take_turn(content="y" * 150)
    assert not cache.branch(first).messages
    assert cache.branch("another").messages
    await conversation.take_turn(content="z" * 300)
    assert len(await said(conversation)) == 4, "too big to keep is still read"
    assert not cache.branch("another").messages


async def test_results_that_wait_for_their_turn_count_too(conversation: Conversation) -> None:
    cache = conversation.ledger._transcripts
    cache.capacity = 300
    await call(conversation)
    assert cache.branch(conversation.session_id).messages
    message = results(conversation, await call(conversation, result=b"x" * 300))
    assert not cache.branch(conversation.session_id).messages
    assert len((await told(conversation, message))[-1][0]["text"]) == 300


async def test_a_session_that_closed_is_forgotten(conversation: Conversation) -> None:
    await conversation.take_turn()
    closing = Closing(session_id=conversation.session_id, status="completed", reason="", at=START)
    await conversation.ledger.close_session(closing)
    assert not conversation.ledger._transcripts.branch(conversation.session_id).messages


async def test_what_was_erased_is_not_told_from_memory(database: Database, owner: asyncpg.Connection) -> None:
    keys = MasterKeys(newest="2026", keys={"2026": b"n" * 32})
    ledger = await Ledger.connect(database.dsn, keys=keys)
    conversation = Conversation(ledger=ledger, owner=owner, session_id="trip-1")
    await conversation.open()
    await conversation.take_turn(content="a secret", commit_saga=True)
    await conversation.transcript(conversation.head)
    closing = Closing(session_id="trip-1", status="completed", reason="", at=START)
    await conversation.another_worker.close_session(closing)
    assert await said(conversation)

    await erase(ledger.database, ledger.vault, "trip-1", by="ann", reason="asked for")

    with pytest.raises(ContentErased):
        await said(conversation)
    await ledger.close()


async def test_an_answer_knows_how_many_tokens_the_api_counted(conversation: Conversation) -> None:
    await conversation.take_turn(content="one", counted=7)
    message, answer = await conversation.transcript(conversation.head)
    assert (message.context, answer.context, answer.counted) == (None, 15, 7)
