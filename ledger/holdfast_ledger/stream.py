"""One writer of streaming chunks per worker process: batches those of all its sessions, and wakes watchers.

It has a connection of its own, so that neither claim nor record ever waits for a watcher. What it writes is for
the eye only: when Postgres is away chunks are dropped, and the recorded message has everything.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Self

from holdfast_ledger import chunks
from holdfast_ledger.database import Database
from holdfast_ledger.errors import LedgerError
from holdfast_ledger.records import Chunk
from holdfast_ledger.store import Ledger

INTERVAL_S = 0.03
"""How long pieces are gathered into one batch: short for an eye, long for a database."""
MOST_WAITING = 10_000
"""Chunks kept while Postgres is away; the oldest go first."""
LEFT_BEHIND_AFTER = timedelta(hours=1)
CLEAN_EVERY_S = 600.0

Turn = tuple[str, int]
"""Session id and number."""

_log = logging.getLogger("holdfast.ledger.stream")


class Flusher:
    """Use as `async with`: opens its connection, and hears from the ledger what was written to it.

    `put`, `changed` and `turn_recorded` return at once and never raise.
    """

    def __init__(self, ledger: Ledger, *, interval_s: float = INTERVAL_S) -> None:
        self._ledger = ledger
        self._interval_s = interval_s
        self._waiting: list[Chunk] = []
        self._changed: set[str] = set()
        self._recorded: set[Turn] = set()
        self._stored: dict[Turn, None] = {}
        """Turns that may have chunks in Postgres, the oldest first; the others' need no removal."""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    async def __aenter__(self) -> Self:
        """Raises `LedgerUnavailable`."""
        database = await self._ledger.database.another(max_size=1)
        self._task = asyncio.create_task(self._run(database), name="holdfast-flusher")
        self._ledger.observer = self
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what waits, then close the connection."""
        self._ledger.observer = None
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task

    def put(self, chunk: Chunk) -> None:
        """Show this piece to watchers soon."""
        self._waiting.append(chunk)
        if chunk.token > 1:  # an earlier attempt may have left some
            self._store((chunk.session_id, chunk.turn))
        if len(self._waiting) > MOST_WAITING:
            del self._waiting[: MOST_WAITING // 2]
        self._wake.set()

    def changed(self, session_id: str) -> None:
        """Rows of the session changed: wake its watchers."""
        self._changed.add(session_id)
        self._wake.set()

    def turn_recorded(self, session_id: str, turn: int) -> None:
        """The turn's message is in the ledger: its chunks are of no use any more."""
        done = (session_id, turn)
        self._waiting = [chunk for chunk in self._waiting if (chunk.session_id, chunk.turn) != done]
        if done in self._stored:
            del self._stored[done]
            self._recorded.add(done)
        self.changed(session_id)

    def _store(self, turn: Turn) -> None:
        self._stored[turn] = None
        if len(self._stored) > MOST_WAITING:  # turns that never were recorded here; the cleaning finds theirs
            del self._stored[next(iter(self._stored))]

    async def _run(self, database: Database) -> None:
        loop = asyncio.get_running_loop()
        clean_at = loop.time() + CLEAN_EVERY_S
        while not self._stopping:
            due = loop.call_at(clean_at, self._wake.set)
            await self._wake.wait()
            due.cancel()
            await self._flush(database)
            if loop.time() >= clean_at:
                await self._clean(database)
                clean_at = loop.time() + CLEAN_EVERY_S
            if not self._stopping:
                await asyncio.sleep(self._interval_s)
        await self._flush(database)
        await database.close()

    async def _flush(self, database: Database) -> None:
        self._wake.clear()
        batch, self._waiting = self._waiting, []
        for chunk in batch:
            self._store((chunk.session_id, chunk.turn))
        changed, self._changed = self._changed, set()
        recorded, self._recorded = sorted(self._recorded), set()
        try:
            if recorded:
                await database.rows("drop_chunks", [each[0] for each in recorded], [each[1] for each in recorded])
            await chunks.write(database, self._ledger.vault, merged(batch), changed)
        except LedgerError as error:
            # Watchers poll as well, so a lost wake-up only makes them later.
            _log.warning("chunks were dropped", extra={"chunks": len(batch), "reason": str(error)})

    async def _clean(self, database: Database) -> None:
        try:
            await database.rows("drop_old_chunks", LEFT_BEHIND_AFTER)
        except LedgerError as error:
            _log.warning("old chunks were not removed", extra={"reason": str(error)})


def merged(batch: list[Chunk]) -> list[Chunk]:
    """Join neighbouring pieces of text of one attempt into one chunk with the first piece's number."""
    streams: dict[tuple[str, int, int], list[Chunk]] = {}
    for chunk in batch:
        stream = streams.setdefault((chunk.session_id, chunk.turn, chunk.token), [])
        if stream and stream[-1].kind == chunk.kind != "tool_use":
            stream[-1] = replace(stream[-1], text=stream[-1].text + chunk.text)
        else:
            stream.append(chunk)
    return [chunk for stream in streams.values() for chunk in stream]
