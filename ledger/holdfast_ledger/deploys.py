"""What a build must still have, so that every open saga can go on or be undone."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast import ids
from holdfast.states import SagaState
from holdfast_ledger import parameters, places
from holdfast_ledger.database import Database
from holdfast_ledger.errors import SagaMissing
from holdfast_ledger.vault import Vault


@dataclass(frozen=True, kw_only=True)
class NeededCode:
    """Of one open saga: its body (`name`), the undo of a step that stands, or the `tool` of one in doubt."""

    saga_id: str
    session_id: str
    state: SagaState
    catalogue_digest: str | None
    name: str | None
    version: str | None
    source: str | None
    undo_tool: str | None
    undo_version: str | None
    tool: str | None


async def needed_code(database: Database, task_queue: str) -> tuple[NeededCode, ...]:
    """Of all open sagas of this task queue that nobody waived, oldest first. Raises `LedgerUnavailable`."""
    rows = await database.rows("needed_code", task_queue)
    found = [{name: value for name, value in row.items() if name != "opened_at"} for row in rows]
    return tuple(NeededCode(**{**row, "state": SagaState(row["state"])}) for row in found)


async def waive_build(
    database: Database, vault: Vault, session_id: str, saga_id: str, *, by: str, reason: str
) -> None:
    """Let workers serve that lack the code of this saga; recorded. Raises `SagaMissing`, `LedgerUnavailable`."""
    seal = await vault.of(session_id)
    body = seal.seal(places.entry(f"@saga/{saga_id}/build_waived"), ids.canonical({"by": by, "reason": reason}))
    row = await database.one("waive_build", parameters.clear_json({"saga_id": saga_id, "by": by}), body)
    if not row["known"]:
        raise SagaMissing(f"There is no saga `{saga_id}`.")
