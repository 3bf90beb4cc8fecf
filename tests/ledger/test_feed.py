"""Reading all sessions at once: a search by filters, page by page, and a stream that skips nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from holdfast import ids
from holdfast.facts import Kind
from holdfast.states import EffectState
from holdfast_ledger.feed import read_feed
from holdfast_ledger.lines import Line
from holdfast_ledger.operations import disable
from holdfast_ledger.positions import BEGINNING, BadCursor, Position
from holdfast_ledger.searching import Wanted, search
from holdfast_ledger.store import Ledger
from tests.conftest import Database
from tests.ledger.conftest import START, Conversation


@pytest.fixture
async def two_sessions(conversation: Conversation) -> Conversation:
    """`trip-1`: bob approved a refund, and it was done. `trip-2`, of another agent and label: only opened."""
    call = await conversation.plan()
    facts = (
        conversation.fact(
            Kind.APPROVAL_ASKED, "ask", call=call.call, tool="refund", body={"digest": call.digest, "rule": "tier"}
        ),
        conversation.fact(
            Kind.APPROVAL_DECIDED,
            "yes",
            call=call.call,
            tool="refund",
            outcome="approved",
            actor="bob",
            body={"digest": call.digest, "decision": "d-1", "by": "bob", "authenticated": True},
        ),
    )
    await conversation.ledger.append(conversation.session_id, facts)
    authorization = {"verdict": "allow", "rule": "tier", "approver": "bob"}
    granted = await conversation.grant(
        call, decision="d-1", use_within=timedelta(days=999), authorization=authorization
    )
    await conversation.record(call, granted.token, EffectState.DONE)
    other = replace(conversation, session_id="trip-2")
    await other.open(agent="clerk", labels={"team": "ops"})
    return conversation


async def found(ledger: Ledger, **wanted: Any) -> list[tuple[str, str]]:
    return [(line.session_id, line.kind) for line in await search(ledger.database, Wanted(**wanted), limit=100)]


async def test_entries_of_all_sessions_are_found_by_each_filter(two_sessions: Conversation, ledger: Ledger) -> None:
    decided = [("trip-1", Kind.EFFECT_OUTCOME), ("trip-1", Kind.EFFECT_INTENT), ("trip-1", Kind.APPROVAL_DECIDED)]
    assert (await found(ledger, tools=["refund"]))[:3] == decided
    assert await found(ledger, approver="bob") == [*decided, ("trip-1", Kind.APPROVAL_ASKED)]
    assert await found(ledger, approver="bob", outcomes=["done"]) == decided[:1]
    assert await found(ledger, actor="bob") == decided[1:]
    assert await found(ledger, tiers=["irreversible"]) == decided[:2]
    assert await found(ledger, agent="clerk") == [("trip-2", Kind.SESSION_OPENED)]
    assert await found(ledger, labels={"team": "ops"}) == [("trip-2", Kind.SESSION_OPENED)]
    assert await found(ledger, kinds=["session_opened"], session_id="trip-1") == [("trip-1", Kind.SESSION_OPENED)]
    assert await found(ledger, approver="eve") == []


async def test_entries_are_found_by_when_they_were_written(two_sessions: Conversation, ledger: Ledger) -> None:
    newest, *_, oldest = await search(ledger.database, Wanted(), limit=100)
    assert await found(ledger, until=oldest.recorded_at) == []
    assert await found(ledger, since=newest.recorded_at) == [("trip-2", Kind.SESSION_OPENED)]
    assert await found(ledger, since=START, until=START + timedelta(seconds=1)) == []


async def test_a_stopped_tool_is_found_among_the_tool_s_entries(ledger: Ledger, conversation: Conversation) -> None:
    await disable(ledger.database, "refund", by="eve", reason="wrong amounts")
    assert await found(ledger, actor="eve") == [("@operations", Kind.TOOL_DISABLED)]


async def test_pages_meet_without_gap_or_overlap(two_sessions: Conversation, ledger: Ledger) -> None:
    everything = await search(ledger.database, Wanted(), limit=100)
    pages: list[Line] = []
    before = None
    while page := await search(ledger.database, Wanted(), before=before, limit=2):
        pages += page
        before = Position.read(page[-1].cursor)
    assert pages == everything
    assert len(everything) == 9


@pytest.mark.parametrize("cursor", ["", "7", "1.2.3", "x.00000000-0000-0000-0000-000000000000.1", "9" * 40 + "..1"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(BadCursor, match="no cursor"):
        Position.read(cursor)


async def streamed(ledger: Ledger, after: Position = BEGINNING) -> list[Line]:
    return [line async for line in read_feed(ledger.database, after=after, follow=False)]


async def test_the_stream_has_every_entry_once_and_goes_on_from_any_of_them(
    two_sessions: Conversation, ledger: Ledger
) -> None:
    lines = await streamed(ledger)
    assert [line.seq for line in lines if line.session_id == "trip-1"] == list(range(1, 9))
    for number, line in enumerate(lines, start=1):
        assert await streamed(ledger, Position.read(line.cursor)) == lines[number:]


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.dsn)
    yield connection
    await connection.close()


async def test_an_entry_that_is_committed_late_is_not_skipped(
    conversation: Conversation, ledger: Ledger, writer: asyncpg.Connection
) -> None:
    """Of two transactions the one that wrote first commits last."""
    other = replace(conversation, session_id="trip-2")
    await other.open()
    begun = await streamed(ledger)
    transaction = writer.transaction()
    await transaction.start()
    await disable_in(writer)
    await other.take_turn()
    assert [line.kind for line in await search(ledger.database, Wanted(), limit=1)] == [Kind.MODEL_TURN]

    stalled = asyncio.Event()
    reading = asyncio.create_task(read_all(ledger, Position.read(begun[-1].cursor), stalled))
    await asyncio.wait({reading, asyncio.create_task(stalled.wait())}, return_when=asyncio.FIRST_COMPLETED)
    assert not reading.done()
    await transaction.commit()

    lines = await reading
    assert [line.kind for line in lines][:2] == [Kind.TOOL_DISABLED, Kind.SAGA_OPENED]
    assert [line.kind for line in lines][-1] == Kind.MODEL_TURN


async def read_all(ledger: Ledger, after: Position, stalled: asyncio.Event) -> list[Line]:
    return [
        line
        async for line in read_feed(ledger.database, after=after, follow=False, stalled=stalled.set, stall_s=0.1)
    ]


async def disable_in(connection: asyncpg.Connection) -> None:
    """Write an entry in the connection's open transaction."""
    body = ids.canonical({"tool": "refund"})
    await connection.execute(
        "SELECT holdfast.disable_tool($1, $2)", '{"id": "1", "tool": "refund", "by": "eve", "reason": "x"}', body
    )


async def test_a_transaction_that_is_taken_back_holds_nothing_up(
    conversation: Conversation, ledger: Ledger, writer: asyncpg.Connection
) -> None:
    transaction = writer.transaction()
    await transaction.start()
    await disable_in(writer)
    reading = asyncio.create_task(streamed(ledger))
    await transaction.rollback()
    assert [line.kind for line in await reading] == [Kind.SESSION_OPENED]


async def test_a_follower_gets_what_is_written_later(conversation: Conversation, ledger: Ledger) -> None:
    stream = read_feed(ledger.database, after=BEGINNING, follow=True)
    assert (await anext(stream)).kind == Kind.SESSION_OPENED
    await conversation.take_turn()
    async with asyncio.timeout(20):
        kinds = [(await anext(stream)).kind for _ in range(3)]
    assert kinds == [Kind.SAGA_OPENED, Kind.MODEL_INTENT, Kind.MODEL_TURN]
    await stream.aclose()
