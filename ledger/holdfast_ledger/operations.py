"""What people do beside any session: the stop button, and taking a record away.

Every claim reads the switch, so it holds for every worker from the moment `disable` returns. Who did what and why
stands in a chain of its own, `@operations`.
"""

from __future__ import annotations

import secrets

from holdfast import ids
from holdfast_ledger import parameters
from holdfast_ledger.database import Database
from holdfast_ledger.records import Switched
from holdfast_ledger.views import RunningCall, StoppedTool

ALL_WRITES = "*"
"""Names every tool above tier `read`."""
CHAIN = "@operations"
"""Where the record of it is, for `ledger show` and `ledger verify`."""


async def disable(database: Database, tool: str, *, by: str, reason: str) -> Switched:
    """Stop a tool, or `ALL_WRITES`. When this returns no claim of it is granted any more; what runs goes on."""
    return await _switch(database, "disable_tool", tool, by, reason)


async def enable(database: Database, tool: str, *, by: str, reason: str) -> Switched:
    """Let a tool go again, and close its circuit breaker."""
    return await _switch(database, "enable_tool", tool, by, reason)


async def _switch(database: Database, statement: str, tool: str, by: str, reason: str) -> Switched:
    said = {"id": secrets.token_hex(8), "tool": tool, "by": by, "reason": reason}
    body = ids.canonical({"tool": tool, "by": by, "reason": reason})
    row = await database.one(statement, parameters.clear_json(said), body)
    return Switched(**row)


async def note_export(database: Database, session_id: str, *, by: str) -> None:
    """Record that somebody takes a session's record away. Raises `SessionMissing`."""
    said = {"id": secrets.token_hex(8), "session_id": session_id, "by": by}
    body = ids.canonical({"session_id": session_id, "by": by})
    await database.rows("note_export", parameters.clear_json(said), body)


async def stopped(database: Database) -> list[StoppedTool]:
    """Tools that are disabled or whose breaker is open, by name."""
    return [StoppedTool(**row) for row in await database.rows("stopped_tools")]


async def running(database: Database, tool: str) -> list[RunningCall]:
    """Calls of the tool that were granted and have not ended, oldest first."""
    return [RunningCall(**row) for row in await database.rows("running_calls", tool)]


async def ever_called(database: Database, tool: str) -> bool:
    row = await database.one("ever_called", tool)
    return bool(row["called"])
