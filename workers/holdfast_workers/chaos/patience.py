"""Doing something although a server is away: again and again, until it works."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx2
from temporalio.service import RPCError

from holdfast_ledger.errors import LedgerUnavailable
from holdfast_workers.temporal import TemporalUnavailable

T = TypeVar("T")

AGAIN_EVERY_S = 0.5
AWAY = (TemporalUnavailable, LedgerUnavailable, RPCError, OSError, httpx2.HTTPError)
"""What a server that is lost for a while looks like."""


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until a server answers; every other error gets out."""
    while True:
        try:
            return await ask()
        except AWAY:
            await asyncio.sleep(AGAIN_EVERY_S)
