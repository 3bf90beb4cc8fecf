"""A pool of connections to one Postgres, and the named SQL that may run on it.

Nothing here depends on the state of a session, so it works behind PgBouncer in transaction mode.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from typing import Any, Literal
from urllib.parse import urlsplit

import asyncpg
from asyncpg.transaction import Transaction

from holdfast_ledger.connections import Connections
from holdfast_ledger.errors import RETRYABLE, LedgerUnavailable, translated

CONNECT_WITHIN_S = 10.0
ANSWER_WITHIN_S = 30.0
"""A server that says nothing for so long counts as unavailable."""
RETRIES = 10
"""How often a transaction that lost against another one is run again before its error gets out."""

Rows = Callable[..., Awaitable[list[asyncpg.Record]]]
"""A named statement's rows: `await rows(name, *arguments)`."""

_NAMED = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def named_sql() -> Mapping[str, str]:
    """All statements of `queries/*.sql` by the name in the `-- name:` line above each."""
    statements: dict[str, str] = {}
    for file in sorted(files("holdfast_ledger").joinpath("queries").iterdir(), key=lambda each: each.name):
        _, *parts = _NAMED.split(file.read_text(encoding="utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in statements:
                raise ValueError(f"two statements are named {name}")
            statements[name] = text.strip()
    return statements


def server_name(dsn: str) -> str:
    """Host, port and database of a DSN, without user and password."""
    parts = urlsplit(dsn)
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return f"{parts.hostname or 'the libpq defaults'}{port}{parts.path}"


class Database:
    """Statements by name, run in transactions of their own, retried where another transaction won."""

    def __init__(self, pool: asyncpg.Pool, dsn: str, *, pgbouncer: bool) -> None:
        self._connections = Connections(pool)
        self._dsn = dsn
        self.pgbouncer = pgbouncer
        self.where = server_name(dsn)

    @classmethod
    async def connect(cls, dsn: str, *, min_size: int, max_size: int, pgbouncer: bool) -> Database:
        """Open the pool with so many connections. Raises `LedgerUnavailable`.

        `pgbouncer`: no prepared statements, which PgBouncer in transaction mode may not keep.
        """
        where = server_name(dsn)
        with translated(where):
            pool = await asyncpg.create_pool(
                dsn,
                min_size=0,  # a floor is kept in the background, which logs a traceback while Postgres is away
                max_size=max_size,
                timeout=CONNECT_WITHIN_S,
                command_timeout=ANSWER_WITHIN_S,
                reset=_nothing_to_reset,
                statement_cache_size=0 if pgbouncer else 100,
            )
            await _open(pool, min_size)
        return cls(pool, dsn, pgbouncer=pgbouncer)

    async def another(self, *, max_size: int) -> Database:
        """A pool of its own to the same server. Raises `LedgerUnavailable`."""
        return await self.connect(self._dsn, min_size=1, max_size=max_size, pgbouncer=self.pgbouncer)

    async def dedicated(self) -> asyncpg.Connection:
        """A connection for LISTEN, outside the pool; the caller ends it. Raises `LedgerUnavailable`."""
        with translated(self.where):
            return await asyncpg.connect(self._dsn, timeout=CONNECT_WITHIN_S)

    async def close(self) -> None:
        await self._connections.close()

    async def row(self, name: str, *arguments: Any) -> asyncpg.Record | None:
        """The first row of the named statement."""
        rows = await self.rows(name, *arguments)
        return rows[0] if rows else None

    async def one(self, name: str, *arguments: Any) -> asyncpg.Record:
        """The only row of the named statement, of those that always return one."""
        return (await self.rows(name, *arguments))[0]

    async def rows(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        """All rows of the named statement: one transaction, one round trip."""
        statement = named_sql()[name]
        for attempt in range(RETRIES):
            try:
                with translated(self.where):
                    return await self._connections.fetch(statement, *arguments)
            except RETRYABLE:
                await asyncio.sleep(random.uniform(0, 0.005 * 2**attempt))
        raise LedgerUnavailable(f"Postgres at {self.where}: `{name}` kept losing against other transactions.")

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Rows]:
        """Run named statements that all see the same moment."""
        async with self.transaction(isolation="repeatable_read") as connection:

            async def rows(name: str, *arguments: Any) -> list[asyncpg.Record]:
                with translated(self.where):
                    return await connection.fetch(named_sql()[name], *arguments)

            yield rows

    @asynccontextmanager
    async def transaction(
        self, isolation: Literal["read_committed", "repeatable_read"] = "read_committed"
    ) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
        """A connection inside a transaction that commits when the block ends well.

        Raises `LedgerUnavailable` where it cannot begin or commit; what the block raises passes through.
        """
        with translated(self.where):
            connection = await self._connections.borrow(timeout=CONNECT_WITHIN_S)
        sound = False
        try:
            with translated(self.where):
                transaction = connection.transaction(isolation=isolation)
                await transaction.start()
            try:
                yield connection
            except BaseException:
                if not connection.is_closed():
                    await transaction.rollback()
                raise
            await self._commit(transaction)
            sound = True
        finally:
            await self._connections.give_back(connection, sound=sound)

    async def _commit(self, transaction: Transaction) -> None:
        try:
            with translated(self.where):
                await transaction.commit()
        except RETRYABLE as error:
            raise LedgerUnavailable(
                f"Postgres at {self.where}: the transaction lost against another one."
            ) from error


async def _open(pool: asyncpg.Pool, count: int) -> None:
    """Make so many connections now. Raises what the driver raises."""
    try:
        opened = await asyncio.gather(*(pool.acquire() for _ in range(count)))
    except BaseException:
        pool.terminate()
        raise
    for connection in opened:
        await pool.release(connection)


async def _nothing_to_reset(connection: asyncpg.Connection) -> None:
    """Pooled connections change no state, so the pool's reset query would be a wasted round trip."""
