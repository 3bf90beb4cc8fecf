"""The record of all sessions as one stream for a log collector, in an order that nothing is ever added to behind.

Transactions commit in another order than they write: an entry can appear that is older than one already read. So
the stream ends at a moment before which nothing more can appear, because every transaction of that time has ended.
A transaction that stays open, anywhere on the server, holds the stream back; none makes it skip.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import datetime

from holdfast_ledger.database import Database
from holdfast_ledger.lines import Line, line_of
from holdfast_ledger.positions import Position
from holdfast_ledger.watching import Patience

PAGE = 500
POLL_S = 0.5
"""How often a follower looks for more."""
SETTLE_S = 0.02
"""How often to look whether the transactions of a moment have ended."""
STALL_S = 10.0
"""After so long the open transaction is worth a word."""


async def read_feed(
    database: Database,
    *,
    after: Position,
    follow: bool,
    patience: Patience | None = None,
    stalled: Callable[[], None] = lambda: None,
    stall_s: float = STALL_S,
) -> AsyncGenerator[Line, None]:
    """Entries after a position, oldest first; up to now, or for ever. Each line's cursor goes on from it.

    Args:
        stalled: told once each time an open transaction holds the stream back for `stall_s`.

    Raises:
        LedgerUnavailable: Postgres was away for longer than the patience lasts.
    """
    patient = patience or Patience()
    while True:
        before = await patient.ask(lambda: final_before(database, stalled, stall_s))
        while rows := await patient.ask(
            lambda: database.rows("feed", after.recorded_at, after.session_key, after.seq, before, PAGE)  # noqa: B023
        ):
            for row in rows:
                yield line_of(row)
            last = rows[-1]
            after = Position(last["recorded_at"], last["session_key"], last["seq"])
        if not follow:
            return
        await asyncio.sleep(POLL_S)


async def final_before(database: Database, stalled: Callable[[], None], stall_s: float) -> datetime:
    """The present moment, once nothing can be added before it.

    An entry gets its transaction's number before its time. So a transaction that had no number at the moment writes
    later times; and when those that had one are over, what they wrote is there to read.
    """
    moment = await database.one("transactions")
    oldest, waited = int(moment["oldest"]), 0.0
    while oldest < int(moment["next"]):
        await asyncio.sleep(SETTLE_S)
        waited += SETTLE_S
        if waited - SETTLE_S < stall_s <= waited:
            stalled()
        oldest = int((await database.one("transactions"))["oldest"])
    at: datetime = moment["at"]
    return at
