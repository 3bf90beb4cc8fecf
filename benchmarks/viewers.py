"""How long a piece of text takes from the model's write to a viewer's screen, less the drawing."""

from __future__ import annotations

import asyncio
import time

from holdfast.states import SessionStatus
from holdfast_ledger.watching import Streamed
from holdfast_workers.client import Holdfast, new_id

EVERY_MS = 20
MOST_PIECES = 3000
"""A minute's."""


async def delays(holdfast: Holdfast, *, viewers: int, pieces: int) -> list[float]:
    """Seconds from write to sight, one for each piece and viewer. Each viewer has a connection of its own.

    On a busy machine a turn may be recorded before anybody saw a piece of it: then a longer one is streamed.
    """
    found: list[float] = []
    while not found:
        assert pieces < MOST_PIECES, "no viewer saw anything"
        found = await _seen(holdfast, viewers, pieces)
        pieces *= 2
    return found


async def _seen(holdfast: Holdfast, viewers: int, pieces: int) -> list[float]:
    session = new_id()
    found: list[float] = []
    watching = [asyncio.create_task(_watch(holdfast, session, pieces, found)) for _ in range(viewers)]
    await holdfast.start(f"stream {pieces} {EVERY_MS}", session_id=session, close_when_idle=True)
    result = await holdfast.result(session)
    assert result.status == SessionStatus.COMPLETED, result.reason
    for task in watching:
        task.cancel()
    await asyncio.wait(watching)
    return found


async def _watch(holdfast: Holdfast, session: str, pieces: int, found: list[float]) -> None:
    seen = 0
    async for event in holdfast.ledger.watch(session):
        now = time.time_ns()
        if isinstance(event, Streamed):
            written = [int(word) for word in event.text.split()]
            found += [(now - each) / 1e9 for each in written]
            seen += len(written)
        if seen >= pieces:
            return
