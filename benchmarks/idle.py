"""What a worker process keeps in memory of a session that waits for its next message."""

from __future__ import annotations

import asyncio
import time

import psutil

from benchmarks.place import Place
from holdfast.states import SessionStatus
from holdfast_workers.client import Holdfast

AT_ONCE = 20
WITHIN_S = 300
EVERY_S = 0.1


async def memory_per_session(place: Place, holdfast: Holdfast, *, sessions: int) -> int:
    """Bytes the worker's process grew by, for each of so many sessions that have had their answer and wait.

    It caches as many of them as a production worker does, and forgets the others until they are spoken to.
    """
    worker = psutil.Process(place.pids["holdfast"])
    before = worker.memory_info().rss
    free = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with free:
            started = await holdfast.start("work 0")
            await _until_idle(holdfast, started.session_id)

    await asyncio.gather(*(one() for _ in range(sessions)))
    return int((worker.memory_info().rss - before) / sessions)


async def _until_idle(holdfast: Holdfast, session_id: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while (await holdfast.reader.session(session_id)).status is not SessionStatus.IDLE:
        if time.monotonic() > deadline:
            raise TimeoutError(f"session `{session_id}` is not idle after {WITHIN_S} s")
        await asyncio.sleep(EVERY_S)
