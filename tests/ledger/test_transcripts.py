"""A worker reads each message of a session once, and is never wrong about what others added."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from holdfast_ledger.store import Ledger
from tests.conftest import Database
from tests.ledger.conftest import Conversation

Read = list[int]


@pytest.fixture
def read(conversation: Conversation, monkeypatch: pytest.MonkeyPatch) -> Read:
    """How many messages each reading fetched."""
    counts: Read = []
    rows = conversation.ledger.database.rows

    async def counted(name: str, *arguments: Any) -> list[asyncpg.Record]:
        found = await rows(name, *arguments)
        if name == "transcript":
            counts.append(len(found))
        return found

    monkeypatch.setattr(conversation.ledger.database, "rows", counted)
    return counts


async def said(conversation: Conversation, ledger: Ledger | None = None) -> list[Any]:
    messages = await (ledger or conversation.ledger).transcript(conversation.session_id, conversation.head)
    return [message.content if message.role == "user" else message.role for message in messages]


async def test_a_later_turn_reads_what_is_new_and_the_same_turn_again_nothing(
    conversation: Conversation, read: Read
) -> None:
    for content in ("one", "two", "three"):
        await conversation.take_turn(content=content)
        await said(conversation)
    assert await said(conversation) == ["one", "assistant", "two", "assistant", "three", "assistant"]
    assert read == [2, 2, 2]


async def test_what_another_worker_added_meanwhile_is_read_too(
    conversation: Conversation, read: Read, database: Database
) -> None:
    other = await Ledger.connect(database.dsn)
    await conversation.take_turn(content="one")
    await said(conversation)
    for content in ("two", "three"):
        await conversation.take_turn(content=content)
        assert content in await said(conversation, other)
    assert await said(conversation) == await said(conversation, other)
    assert read == [2, 4]
    await other.close()


async def test_after_a_reset_the_other_branch_is_read_whole_and_nothing_of_the_first_is_left(
    conversation: Conversation, read: Read
) -> None:
    await conversation.take_turn(content="one")
    fork, turn = conversation.head, conversation.turn
    await conversation.take_turn(content="the road taken")
    await said(conversation)
    conversation.head, conversation.turn = fork, turn
    await conversation.take_turn(content="the other road")
    assert await said(conversation) == ["one", "assistant", "the other road", "assistant"]
    assert read == [4, 4]


async def test_no_more_is_kept_than_the_capacity_and_the_least_used_goes_first(conversation: Conversation) -> None:
    cache = conversation.ledger._transcripts
    cache.capacity = 200
    await conversation.take_turn(content="x" * 150)
    await said(conversation)
    first = conversation.session_id
    conversation.session_id = "another"
    await conversation.open()
    await conversation.take_turn(content="y" * 150)
    await said(conversation)
    assert not cache.get(first).messages
    assert cache.get("another").messages
    await conversation.take_turn(content="z" * 300)
    assert len(await said(conversation)) == 4, "too big to keep is still read"
    assert not cache.get("another").messages


async def test_an_answer_knows_how_many_tokens_the_api_counted(conversation: Conversation) -> None:
    await conversation.take_turn(content="one")
    message, answer = await conversation.ledger.transcript(conversation.session_id, conversation.head)
    assert (message.context, answer.context) == (None, 15)
