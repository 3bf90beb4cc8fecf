"""Recording an attempt's end although Postgres is away for a while: the token decides, however late it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import chain, repeat

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from holdfast.contracts import LEASE, CallOutcome
from holdfast_ledger.errors import LedgerUnavailable
from holdfast_ledger.records import Recorded

PATIENCE = timedelta(minutes=10)
"""How long an outcome waits for Postgres in this process."""
PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)


async def until_recorded(record: Callable[[], Awaitable[Recorded]]) -> Recorded:
    """Raises LedgerUnavailable after `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE.total_seconds()
    for pause in chain(PAUSES, repeat(PAUSES[-1])):
        try:
            return await record()
        except LedgerUnavailable:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(pause)
    raise AssertionError("the pauses never end")


def later(message: str, kind: str, delay: timedelta, *, ordinary: bool = False) -> ApplicationError:
    """Let Temporal make another attempt after `delay`. `ordinary`: nobody needs an alarm for it."""
    category = ApplicationErrorCategory.BENIGN if ordinary else ApplicationErrorCategory.UNSPECIFIED
    return ApplicationError(message, type=kind, next_retry_delay=delay, category=category)


def superseded() -> ApplicationError:
    return later("a newer attempt of this call is at work", "EffectFenced", LEASE, ordinary=True)


def standing(recorded: Recorded) -> CallOutcome:
    """The outcome of the attempt that was faster. Raises where there is none yet."""
    if recorded.outcome is None:
        raise superseded()
    return CallOutcome.model_validate(recorded.outcome)
