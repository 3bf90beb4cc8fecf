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

from holdfast_ledger.errors import LedgerUnavailable
from holdfast_ledger.store import Ledger

BEAT = timedelta(milliseconds=500)
"""Cancellation arrives with a heartbeat's answer: an interrupt takes effect this fast."""
RENEWAL = timedelta(seconds=5)


@contextlib.asynccontextmanager
async def beating(interval: timedelta = BEAT) -> AsyncIterator[None]:
    """Heartbeat for the length of the block, first after `interval`: each beat is a write of Temporal's server."""
    async with _beside(_beat(interval)):
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
    async with _beside(_renew(ledger, effect_id, token, lease, lost, interval)):
        yield


async def _beat(interval: timedelta) -> None:
    while True:
        await asyncio.sleep(interval.total_seconds())
        activity.heartbeat()


async def _renew(
    ledger: Ledger, effect_id: str, token: int, lease: timedelta, lost: Callable[[], None], interval: timedelta
) -> None:
    while True:
        await asyncio.sleep(interval.total_seconds())
        try:
            held = await ledger.renew(effect_id, token, lease)
        except LedgerUnavailable:
            continue  # nobody else can claim it either; the token decides when Postgres is back
        if not held:
            lost()
            return


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
