"""What keeps a tool from being called once too often: leases, circuit breakers, keys for calls that mean the same.

All of them are judged in Postgres when a call is claimed, on its clock and for all workers alike.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field

from holdfast.durations import Duration
from holdfast.wire import Strict

RepeatScope = Literal["tenant", "session"]
"""Among whose calls a semantic key is looked for. Sessions without a tenant are one tenant."""

LEASE = timedelta(seconds=15)
"""How long an attempt that says nothing is taken for alive."""
RENEWAL = timedelta(seconds=5)
"""How often a living attempt extends its lease."""
DEFAULT_WINDOW = timedelta(hours=24)


class Breaker(Strict):
    """So many failures in a row within `within`, and the tool is left alone for `open_for`."""

    failures: int = Field(default=5, ge=1)
    within: Duration = timedelta(minutes=1)
    open_for: Duration = timedelta(seconds=30)
