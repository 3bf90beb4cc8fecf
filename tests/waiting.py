"""Waiting for what something else brings about: a condition with a deadline, and never a sleep for luck."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

import asyncpg

WITHIN_S = 10.0
PAUSE_S = 0.01

T = TypeVar("T")


@overload
async def until(
    condition: Callable[[], Awaitable[T | None]], what: str, *, within: float = WITHIN_S, pause: float = PAUSE_S
) -> T: ...
@overload
async def until(
    condition: Callable[[], T | None], what: str, *, within: float = WITHIN_S, pause: float = PAUSE_S
) -> T: ...
async def until(
    condition: Callable[[], Any], what: str, *, within: float = WITHIN_S, pause: float = PAUSE_S
) -> Any:
    """The first truthy answer; fails saying `what` was waited for."""
    deadline = time.monotonic() + within
    while True:
        asked = condition()
        answer = await asked if isinstance(asked, Awaitable) else asked
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {within} s for {what}"
        await asyncio.sleep(pause)


async def until_locked_out(owner: asyncpg.Connection, number: int) -> None:
    """Wait until at least so many other connections to this database wait for a lock: more may, behind those."""
    waiting = (
        "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE NOT granted AND datname = current_database()"
    )

    async def reached() -> bool:
        return bool(await owner.fetchval(waiting) >= number)

    await until(reached, f"{number} connections to wait for a lock")
