"""Asking Temporal for another attempt: when, and whether anybody needs to hear of it.

Temporal's own policy never ends an effect; these errors only say how long the next attempt waits.
"""

from __future__ import annotations

import random
from datetime import timedelta

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from holdfast.contracts import LEASE

BACKOFF_FIRST = timedelta(milliseconds=500)
BACKOFF_MOST = timedelta(seconds=30)
SPREAD = (timedelta(milliseconds=500), timedelta(seconds=10))
"""Within how long those come back, at least and at most, who were told to wait for the same moment."""


def later(message: str, kind: str, delay: timedelta, *, ordinary: bool = False) -> ApplicationError:
    """Let Temporal make another attempt after `delay`. `ordinary`: nobody needs an alarm for it."""
    category = ApplicationErrorCategory.BENIGN if ordinary else ApplicationErrorCategory.UNSPECIFIED
    return ApplicationError(message, type=kind, next_retry_delay=delay, category=category)


def busy(what: str, delay: timedelta) -> ApplicationError:
    """Another attempt holds the lease; `what` is `turn` or `call`."""
    return later(f"another attempt of this {what} is at work", "EffectBusy", delay, ordinary=True)


def superseded(what: str) -> ApplicationError:
    """A newer attempt took the effect over; `what` is `turn` or `call`."""
    return later(f"a newer attempt of this {what} is at work", "EffectFenced", LEASE, ordinary=True)


def spread(delay: timedelta) -> timedelta:
    """Some time after `delay`, so that not all who wait for the same moment come at once."""
    least, most = SPREAD
    return delay + min(max(delay / 4, least), most) * random.random()


def backoff(attempt: int, *, most: timedelta = BACKOFF_MOST) -> timedelta:
    """The pause after the effect's attempt of this number: exponential, bounded, with jitter."""
    doublings = min(attempt - 1, 10)  # beyond, the bound holds anyway
    return min(BACKOFF_FIRST * float(2**doublings), most) * random.uniform(0.5, 1.0)
