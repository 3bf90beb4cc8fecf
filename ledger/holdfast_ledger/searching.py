"""Finding entries in the record of all sessions, by what stands in its clear columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from holdfast_ledger import parameters
from holdfast_ledger.database import Database
from holdfast_ledger.lines import Line, line_of
from holdfast_ledger.positions import Position


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Every filter narrows; of several values of one any will do, but an entry's session has all `labels`."""

    session_id: str | None = None
    agent: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    kinds: Sequence[str] = ()
    tools: Sequence[str] = ()
    tiers: Sequence[str] = ()
    outcomes: Sequence[str] = ()
    actor: str | None = None
    """Who did it: a person, `policy`, a model."""
    approver: str | None = None
    """All entries of the calls this person allowed or denied."""
    since: datetime | None = None
    """When it was written, on the database's clock."""
    until: datetime | None = None


async def search(database: Database, wanted: Wanted, *, before: Position | None = None, limit: int) -> list[Line]:
    """The newest entries, newest first; `before` the last one of the page before. Raises `LedgerUnavailable`."""
    rows = await database.rows(
        "search",
        wanted.session_id,
        wanted.agent,
        parameters.clear_json(wanted.labels) if wanted.labels else None,
        list(wanted.kinds) or None,
        list(wanted.tools) or None,
        list(wanted.tiers) or None,
        list(wanted.outcomes) or None,
        wanted.actor,
        wanted.approver,
        wanted.since,
        wanted.until,
        before.recorded_at if before else None,
        before.session_key if before else None,
        before.seq if before else None,
        limit,
    )
    return [line_of(row) for row in rows]
