"""Watchers see the record grow and the running turn stream; they write nothing and miss nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import pytest

from holdfast.facts import Kind
from holdfast_ledger.records import Chunk, Granted
from holdfast_ledger.store import Ledger
from holdfast_ledger.stream import Flusher, merged
from holdfast_ledger.watching import Restarted, Streamed, Told, WatchEvent, watch
from tests.conftest import Database
from tests.ledger.conftest import Conversation

WITHIN_S = 10.0


class Watcher:
    """Collects what `watch` yields until a condition holds."""

    def __init__(self) -> None:
        self.events: list[WatchEvent] = []
        self._more = asyncio.Event()

    def see(self, event: WatchEvent) -> None:
        self.events.append(event)
        self._more.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                self._more.clear()
                await self._more.wait()

    def kinds(self) -> list[str]:
        return [event.entry.kind for event in self.events if isinstance(event, Told)]

    def text(self) -> str:
        """What a terminal shows of the running turn."""
        shown = ""
        for event in self.events:
            if isinstance(event, Restarted) or (isinstance(event, Told) and event.entry.kind == Kind.MODEL_TURN):
                shown = ""
            elif isinstance(event, Streamed):
                shown += event.text
        return shown


@asynccontextmanager
async def watching(
    ledger: Ledger, session_id: str, *, after: int = 0, listen: bool = True
) -> AsyncIterator[Watcher]:
    watcher = Watcher()

    async def look() -> None:
        async for event in watch(ledger.database, ledger.vault, session_id, after=after, listen=listen):
            watcher.see(event)

    task = asyncio.create_task(look())
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


@pytest.fixture
async def flusher(ledger: Ledger) -> AsyncIterator[Flusher]:
    async with Flusher(ledger) as flusher:
        yield flusher


def chunk(seq: int, text: str, *, turn: int = 1, token: int = 1) -> Chunk:
    return Chunk(session_id="trip-1", turn=turn, token=token, seq=seq, kind="text", text=text)


@pytest.mark.parametrize("listen", [True, False])
async def test_a_watcher_sees_the_turn_stream_and_then_the_recorded_message(
    conversation: Conversation, flusher: Flusher, listen: bool
) -> None:
    async with watching(conversation.ledger, "trip-1", listen=listen) as watcher:
        claim = conversation.model_claim(conversation.user_message())
        granted = await conversation.ledger.claim(claim)
        assert isinstance(granted, Granted)
        for seq, piece in enumerate(("half ", "an \ud83d", " emoji \x00")):
            flusher.put(chunk(seq, piece))
        await watcher.until(lambda: watcher.text() == "half an \ud83d emoji \x00")

        await conversation.ledger.record_turn(conversation.turn_record(claim, granted.token))
        await watcher.until(lambda: Kind.MODEL_TURN in watcher.kinds())

    assert watcher.text() == ""
    last = watcher.events[-1]
    assert isinstance(last, Told)
    assert last.message == [{"type": "text", "text": "turn 1"}]
    assert watcher.kinds() == ["session_opened", "saga_opened", "model_intent", "model_turn"]


async def test_behind_pgbouncer_a_watcher_polls_and_misses_nothing(
    database: Database, conversation: Conversation, owner: asyncpg.Connection
) -> None:
    behind, watcher = await Ledger.connect(database.dsn, pgbouncer=True), Watcher()

    async def look() -> None:
        async for event in behind.watch("trip-1"):
            watcher.see(event)

    looking = asyncio.create_task(look())
    await watcher.until(lambda: watcher.kinds() == ["session_opened"])
    listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN%'"
    assert await owner.fetchval(listening) == 0
    for _ in range(3):
        await conversation.take_turn()
    await watcher.until(lambda: watcher.kinds().count("model_turn") == 3)
    looking.cancel()
    await asyncio.wait([looking])
    await behind.close()
    assert watcher.kinds() == [entry["kind"] for entry in await conversation.entries()]


async def test_a_late_watcher_sees_all_of_the_running_turn(conversation: Conversation, flusher: Flusher) -> None:
    await conversation.take_turn()
    seen = len(await conversation.entries())
    claim = conversation.model_claim(conversation.user_message())
    await conversation.ledger.claim(claim)
    intent = len(await conversation.entries())
    flusher.put(chunk(0, "all ", turn=2))
    flusher.put(chunk(1, "of it", turn=2))
    for after in (0, seen, intent):
        async with watching(conversation.ledger, "trip-1", after=after) as watcher:
            await watcher.until(lambda: watcher.text() == "all of it")  # ends within the loop
        assert len(watcher.kinds()) == intent - after


async def test_another_attempt_resets_the_view(conversation: Conversation, flusher: Flusher) -> None:
    claim = conversation.model_claim(conversation.user_message())
    async with watching(conversation.ledger, "trip-1") as watcher:
        await conversation.ledger.claim(claim)
        flusher.put(chunk(0, "first try"))
        await watcher.until(lambda: watcher.text() == "first try")
        await conversation.ledger.claim(replace(claim, nonce="another attempt"))
        flusher.put(chunk(0, "second try", token=2))
        flusher.put(chunk(1, " late words of the first", token=1))
        await watcher.until(lambda: watcher.text() == "second try")

    assert Restarted(turn=1, token=2) in watcher.events


async def test_chunks_of_recorded_turns_are_removed(
    conversation: Conversation, flusher: Flusher, owner: asyncpg.Connection
) -> None:
    async with watching(conversation.ledger, "trip-1") as watcher:
        claim = conversation.model_claim(conversation.user_message())
        granted = await conversation.ledger.claim(claim)
        assert isinstance(granted, Granted)
        flusher.put(chunk(0, "gone"))
        await watcher.until(lambda: watcher.text() == "gone")
        flusher.put(chunk(1, " soon"))
        await conversation.ledger.record_turn(conversation.turn_record(claim, granted.token))
        await watcher.until(lambda: Kind.MODEL_TURN in watcher.kinds())

    await flusher.__aexit__(None, None, None)
    assert await owner.fetchval("SELECT count(*) FROM holdfast.chunk") == 0


async def test_watching_writes_nothing(conversation: Conversation, owner: asyncpg.Connection) -> None:
    await conversation.take_turn()
    counted = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables"
    await owner.execute("SELECT pg_stat_force_next_flush()")
    before = await owner.fetchval(counted)

    async with watching(conversation.ledger, "trip-1") as watcher:
        await watcher.until(lambda: "model_turn" in watcher.kinds())

    assert await owner.fetchval(counted) == before


async def test_a_watcher_outlives_its_connections(
    database: Database, conversation: Conversation, owner: asyncpg.Connection
) -> None:
    async with watching(conversation.ledger, "trip-1") as watcher:
        await watcher.until(lambda: len(watcher.events) == 1)
        await owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        conversation.ledger, old = await Ledger.connect(database.dsn), conversation.ledger
        await conversation.take_turn()
        await watcher.until(lambda: "model_turn" in watcher.kinds())
        conversation.ledger, fresh = old, conversation.ledger
        await fresh.close()


def test_neighbouring_pieces_of_text_become_one_chunk() -> None:
    tool = Chunk(session_id="trip-1", turn=1, token=1, seq=3, kind="tool_use", text="refund")
    batch = [chunk(0, "a"), chunk(0, "x", turn=2), chunk(1, "b"), tool, tool, chunk(4, "c")]

    assert merged(batch) == [chunk(0, "ab"), tool, tool, chunk(4, "c"), chunk(0, "x", turn=2)]
