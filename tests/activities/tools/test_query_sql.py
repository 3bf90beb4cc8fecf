"""`query_sql` reads a real database and cannot write to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from holdfast import ToolRefused, ToolUnavailable
from holdfast.config import SqlSettings
from holdfast_activities.resources import RESOURCES, Resources
from holdfast_activities.tools.builtin import query_sql
from tests.conftest import Database


class Context:
    """What `query_sql` takes of a ToolContext."""

    def __init__(self, dsn: str | None, **settings: Any) -> None:
        sql = SqlSettings.model_validate(settings)
        lent = Resources(workspace=Path(), sql=sql, sql_dsn=dsn, read_result=_nothing)
        self.resources = {RESOURCES: lent}


async def _nothing(session: str, call: str) -> bytes | None:
    return None


@pytest.fixture
async def orders(database: Database) -> str:
    """A database with ten orders; the login may do everything."""
    connection = await asyncpg.connect(database.owner_dsn)
    await connection.execute(
        "CREATE TABLE orders AS SELECT id, id * 1.5 AS total, timestamptz '2030-01-01 00:00Z' AS at, "
        "'NaN'::float8 AS odd, '\\x00ff'::bytea AS raw FROM generate_series(1, 10) id; CREATE SEQUENCE numbers"
    )
    await connection.close()
    return database.owner_dsn


async def test_rows_come_as_json_values(orders: str) -> None:
    context: Any = Context(orders)

    answer = await query_sql(context, "SELECT id, total, at, odd, raw, ARRAY[1.5, 2] AS list FROM orders LIMIT 1")

    assert answer == {
        "columns": ["id", "total", "at", "odd", "raw", "list"],
        "rows": [[1, "1.5", "2030-01-01T00:00:00+00:00", "nan", "AP8=", ["1.5", "2"]]],
    }


async def test_rows_beyond_the_cap_are_left_out_and_said(orders: str) -> None:
    context: Any = Context(orders, max_rows=3)

    answer = await query_sql(context, "SELECT id FROM orders ORDER BY id")

    assert [row[0] for row in answer["rows"]] == [1, 2, 3]
    assert "only the first 3" in answer["cut"]


WRITES = (
    "DELETE FROM orders",
    "WITH gone AS (DELETE FROM orders RETURNING 1) SELECT * FROM gone",
    "SELECT 1; DELETE FROM orders",
    "COMMIT; DELETE FROM orders",
    "/* harmless */ UPDATE orders SET total = 0",
    "SELECT nextval('numbers')",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "COPY orders TO PROGRAM 'true'",
    "EXPLAIN ANALYZE DELETE FROM orders",
)
MISTAKES = ("SELECT * FROM nothing_here", "not sql", "")


async def test_nothing_but_reading_runs(orders: str) -> None:
    context: Any = Context(orders)

    for sql in (*WRITES, *MISTAKES):
        with pytest.raises(ToolRefused):
            await query_sql(context, sql)

    assert (await query_sql(context, "SELECT count(*), sum(total) FROM orders"))["rows"] == [[10, "82.5"]]


async def test_a_slow_query_is_stopped(orders: str) -> None:
    context: Any = Context(orders, timeout="100ms")

    with pytest.raises(ToolRefused, match=r"longer than 0\.1 s"):
        await query_sql(context, "SELECT pg_sleep(30)")


async def test_a_database_that_cannot_be_reached_is_told_without_its_password() -> None:
    context: Any = Context("postgresql://ana:hunter2@127.0.0.1:1/none")

    with pytest.raises(ToolUnavailable) as raised:
        await query_sql(context, "SELECT 1")

    assert "hunter2" not in str(raised.value)


async def test_without_a_database_the_tool_says_so() -> None:
    context: Any = Context(None)

    with pytest.raises(ToolRefused, match="no database is configured"):
        await query_sql(context, "SELECT 1")
