"""Recording an attempt's end although Postgres is away for a while: the token decides, however late it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import chain, repeat

from temporalio import activity

from holdfast_ledger.errors import LedgerUnavailable
from holdfast_ledger.records import Recorded

PATIENCE = timedelta(minutes=10)
"""How long an outcome waits for Postgres in this process."""
PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)


async def until_recorded(record: Callable[[], Awaitable[Recorded]]) -> Recorded:
    """Raises LedgerUnavailable after `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE.total_seconds()
    pauses = chain(PAUSES, repeat(PAUSES[-1]))
    while True:
        try:
            return await record()
        except LedgerUnavailable:
            if time.monotonic() > deadline:
                raise
            activity.logger.warning("an outcome waits for Postgres to be recorded")
        await asyncio.sleep(next(pauses))
