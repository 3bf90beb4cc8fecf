"""Keeping an attempt alive while it works: heartbeats to Temporal, renewals of the lease to the ledger.

Both run beside the work, so that neither a slow database nor a silent model lets the other end believe we died.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from typing import Any

from temporalio import activity

from holdfast import guards
from holdfast_ledger.errors import LedgerUnavailable
from holdfast_ledger.store import Ledger

BEAT = timedelta(milliseconds=500)
"""Cancellation arrives with a heartbeat's answer: an interrupt takes effect this fast."""
RENEWAL = guards.RENEWAL


@contextlib.asynccontextmanager
async def beating(interval: timedelta = BEAT) -> AsyncIterator[None]:
    """Heartbeat for the length of the block, first after `interval`: each beat is a write of Temporal's server.

    A local activity has no heartbeat: it is over before one would be due.
    """
    if activity.info().is_local:
        yield
        return
    async with _beside(lambda: _beat(interval), after=interval):
        yield


@contextlib.asynccontextmanager
async def renewing(
    ledger: Ledger,
    effect_id: str,
    token: int,
    *,
    lease: timedelta,
    lost: Callable[[], None],
    interval: timedelta = RENEWAL,
) -> AsyncIterator[None]:
    """Renew the lease for the length of the block; call `lost` once when a newer attempt holds the effect."""
    async with _beside(lambda: _renew(ledger, effect_id, token, lease, lost, interval), after=interval):
        yield


async def _beat(interval: timedelta) -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(interval.total_seconds())


async def _renew(
    ledger: Ledger, effect_id: str, token: int, lease: timedelta, lost: Callable[[], None], interval: timedelta
) -> None:
    while True:
        try:
            held = await ledger.renew(effect_id, token, lease)
        except LedgerUnavailable:
            held = True  # nobody else can claim it either; the token decides when Postgres is back
        if not held:
            lost()
            return
        await asyncio.sleep(interval.total_seconds())


@contextlib.asynccontextmanager
async def _beside(work: Callable[[], Coroutine[Any, Any, None]], *, after: timedelta) -> AsyncIterator[None]:
    """Do `work` beside the block from `after` on: most blocks are over before, and then no task is made."""
    tasks: list[asyncio.Task[None]] = []
    start = asyncio.get_running_loop().call_later(
        after.total_seconds(), lambda: tasks.append(asyncio.create_task(work()))
    )
    try:
        yield
    finally:
        start.cancel()
        for task in tasks:
            task.cancel()
            await asyncio.wait({task})
