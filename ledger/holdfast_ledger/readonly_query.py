"""One read-only query against a database of the user's, for the `query_sql` tool.

The session is read-only from its first byte, the statement has a time limit, and the extended protocol takes one
statement only, so nothing can end the read-only transaction and go on. Give it a role that can only read all the
same: functions with side effects are the database's own matter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg

from holdfast.errors import ToolRefused, ToolUnavailable

CONNECT_TIMEOUT = timedelta(seconds=5)
READS = frozenset({"select", "with", "values", "table", "explain", "show"})
_LEADING = re.compile(r"^(?:\s+|--[^\n]*\n|/\*.*?\*/|\()*([A-Za-z]+)", re.S)


@dataclass(frozen=True, kw_only=True)
class Rows:
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    more: bool
    """There are rows beyond the cap."""


async def run_readonly(dsn: str, sql: str, *, timeout: timedelta, max_rows: int) -> Rows:
    """Run one reading statement and give at most `max_rows` rows.

    Raises:
        ToolRefused: for a statement that does not read, or that the database refuses; its message says why.
        ToolUnavailable: when the database cannot be reached.
    """
    first = _LEADING.match(sql)
    if first is None or first[1].lower() not in READS:
        raise ToolRefused(f"only reading statements run here: {', '.join(sorted(READS)).upper()}")
    connection = await _connect(dsn, timeout)
    try:
        async with connection.transaction(readonly=True):
            cursor = await connection.cursor(sql)
            records = await cursor.fetch(max_rows + 1)
            names = tuple(attribute.name for attribute in (await connection.prepare(sql)).get_attributes())
    except asyncpg.QueryCanceledError as error:
        raise ToolRefused(f"the query took longer than {timeout.total_seconds():g} s and was stopped") from error
    except (asyncpg.PostgresConnectionError, OSError) as error:
        raise ToolUnavailable("the database went away during the query") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ToolRefused(f"the database refused the query: {error}") from error
    finally:
        await connection.close()
    return Rows(
        columns=names, rows=tuple(tuple(record) for record in records[:max_rows]), more=len(records) > max_rows
    )


async def _connect(dsn: str, timeout: timedelta) -> asyncpg.Connection[asyncpg.Record]:
    limits = {
        "default_transaction_read_only": "on",
        "statement_timeout": str(int(timeout.total_seconds() * 1000)),
        "idle_in_transaction_session_timeout": "60000",
        "application_name": "holdfast query_sql",
    }
    try:
        return await asyncpg.connect(
            dsn, timeout=CONNECT_TIMEOUT.total_seconds(), server_settings=limits, statement_cache_size=0
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        # the DSN holds a password and some of these messages quote it
        raise ToolUnavailable(f"the database cannot be reached ({type(error).__name__}); tell the user") from None
