"""What a worker lends to the built-in tools, through `ToolContext.resources`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.config import HttpSettings, SqlSettings
from holdfast.tools import ToolContext

RESOURCES = "holdfast"


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Built once per worker, by the composition root."""

    workspace: Path
    """Root of the file tools."""
    http: HttpSettings = field(default_factory=HttpSettings)
    sql: SqlSettings = field(default_factory=SqlSettings)
    sql_dsn: str | None = field(default=None, repr=False)
    """The DSN that `sql.dsn_env` names; None where it is not set."""
    read_result: Callable[[str, str], Awaitable[bytes | None]]
    """(session id, call number) to the kept result: `Ledger.result`."""


def resources(ctx: ToolContext) -> Resources:
    found = ctx.resources[RESOURCES]
    assert isinstance(found, Resources)
    return found
