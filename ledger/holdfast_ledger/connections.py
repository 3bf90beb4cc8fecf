"""Connections of a pool, handed from one statement to the next.

To take a connection from asyncpg's pool and to return it costs more than a short statement: a proxy, a task, a
reset. So one that has answered stays at hand for the next statement. The pool still makes, counts and ends them: it
gets back what nobody used for a while, and at once what failed or what somebody waits for.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

KEPT_S = 30.0
"""How long one stays at hand unused; then the pool has it, which closes it five minutes later."""


class Connections:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._at_hand: list[tuple[PoolConnectionProxy, float]] = []
        """With the time of their return, the longest unused first."""
        self._waiting = 0
        self._closing = False
        self._tidying: asyncio.TimerHandle | None = None
        self._returning: asyncio.Task[None] | None = None

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """All rows of one statement. Raises what the driver raises."""
        connection = await self.borrow()
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
        except BaseException:
            await self.give_back(connection, sound=False)
            raise
        await self.give_back(connection)
        return rows

    async def borrow(self, *, timeout: float | None = None) -> PoolConnectionProxy:
        """Give it back when done. Raises what the driver raises.

        Args:
            timeout: seconds to wait until one is free, or made.
        """
        while self._at_hand:
            connection, _ = self._at_hand.pop()
            if _is_open(connection):
                return connection
            await self._pool.release(connection)
        self._waiting += 1
        try:
            return await self._pool.acquire(timeout=timeout)
        finally:
            self._waiting -= 1

    async def give_back(self, connection: PoolConnectionProxy, *, sound: bool = True) -> None:
        """Return what was borrowed.

        Args:
            sound: its last statement was answered; of any other the pool finds out whether it can be used again.
        """
        if not sound or self._waiting or self._closing:
            await self._pool.release(connection)
            return
        loop = asyncio.get_running_loop()
        self._at_hand.append((connection, loop.time()))
        if self._tidying is None:
            self._tidying = loop.call_later(KEPT_S, self._tidy)

    async def close(self) -> None:
        """Wait for those that are lent, then close all."""
        self._closing = True
        if self._tidying is not None:
            self._tidying.cancel()
        await self._return(self._at_hand)
        await self._pool.close()

    def _tidy(self) -> None:
        loop = asyncio.get_running_loop()
        unused_since = loop.time() - KEPT_S
        old = [each for each in self._at_hand if each[1] <= unused_since]
        del self._at_hand[: len(old)]
        self._tidying = loop.call_later(KEPT_S, self._tidy) if self._at_hand else None
        if old:
            self._returning = asyncio.create_task(self._return(old))

    async def _return(self, connections: list[tuple[PoolConnectionProxy, float]]) -> None:
        while connections:
            await self._pool.release(connections.pop()[0])


def _is_open(connection: PoolConnectionProxy) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:  # the pool noticed first, and took it back
        return False
