"""How many things stand where right now, over all sessions: what gauges show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from holdfast.states import SagaState, SessionStatus
from holdfast_ledger.database import Database

_ENDED = (SagaState.COMMITTED, SagaState.ABORTED)


@dataclass(frozen=True, kw_only=True)
class Standing:
    approvals_waiting: int
    effects_unknown: int
    sessions: Mapping[SessionStatus, int]
    """Those that have not ended, by status; 0 where there is none."""
    sagas: Mapping[SagaState, int]
    """Those that have not ended, by state; 0 where there is none."""


async def read_standing(database: Database) -> Standing:
    """Count. Raises `LedgerUnavailable`."""
    rows = await database.rows("standing")
    counted = {(row["what"], row["status"]): int(row["number"]) for row in rows}
    return Standing(
        approvals_waiting=counted[("approval", None)],
        effects_unknown=counted[("effect", None)],
        sessions={status: counted.get(("session", status), 0) for status in SessionStatus if not status.ended},
        sagas={state: counted.get(("saga", state), 0) for state in SagaState if state not in _ENDED},
    )
