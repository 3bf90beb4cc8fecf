"""`query_sql`: read-only questions to one configured database."""

from __future__ import annotations

import base64
from datetime import date, datetime, time
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field

from holdfast.errors import ToolRefused
from holdfast.tools import ToolContext, tool
from holdfast_activities.resources import resources
from holdfast_ledger.readonly_query import run_readonly

Sql = Annotated[
    str,
    Field(
        min_length=1,
        max_length=20_000,
        description='One PostgreSQL statement that reads, e.g. "SELECT id, total FROM orders LIMIT 20".',
    ),
]


@tool(timeout="30s")
async def query_sql(ctx: ToolContext, sql: Sql) -> dict[str, Any]:
    """Run one read-only SQL statement against the configured PostgreSQL database.

    Use it to look things up or to count. Look at `information_schema.columns` first when you do not know the
    tables. Writing is impossible; the number of rows and the time are limited, so aggregate and use LIMIT.
    """
    lent = resources(ctx)
    if lent.sql_dsn is None:
        raise ToolRefused("no database is configured for `query_sql` ([sql] dsn_env); tell the user")
    found = await run_readonly(lent.sql_dsn, sql, timeout=lent.sql.timeout, max_rows=lent.sql.max_rows)
    answer: dict[str, Any] = {
        "columns": list(found.columns),
        "rows": [[_json(value) for value in row] for row in found.rows],
    }
    if found.more:
        answer["cut"] = f"there are more rows; only the first {lent.sql.max_rows} are shown"
    return answer


def _json(value: Any) -> Any:
    """A database value as JSON; numbers that JSON would round or refuse become strings."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if value == value and abs(value) != float("inf") else str(value)
        case Decimal():
            return str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case list() | tuple():
            return [_json(item) for item in value]
        case _:
            return str(value)
