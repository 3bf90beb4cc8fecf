"""What people do with keys: rotate them, destroy one, and be on record for what they had decrypted.

Each is a fact in the chain `@operations`: a session's own chain may be archived, and an erased one says no more.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from holdfast import ids
from holdfast_ledger import parameters
from holdfast_ledger.database import Database
from holdfast_ledger.vault import Vault, wrapping

PAGE = 500
"""Keys wrapped anew in one go."""


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """`rewrapped` keys now stand under `master_id`; `left` are how many still stand under which older one."""

    master_id: str
    rewrapped: int
    left: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class ErasedNow:
    """`fresh` False: it was erased before, then and by whom."""

    fresh: bool
    at: datetime
    by: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Somebody had a session's contents decrypted."""

    by: str
    command: str
    at: datetime


async def rotate(database: Database, vault: Vault, *, by: str) -> Rotation:
    """Wrap every session's key under the newest master key. Bodies stay as they are; living sessions go on.

    It can be stopped and run again. Raises `KeyMissing` where an older master key is not here any more.
    """
    keys, newest, rewrapped, after = vault.keys, vault.keys.newest, 0, None
    while rows := await database.rows("keys_to_rewrap", newest, after, PAGE):
        for row in rows:
            context = wrapping(row["id"], row["key_id"])
            secret = await keys.unwrap(row["wrapped"], row["master_id"], context)
            wrapped = await keys.wrap(secret, context)
            told = await database.one("rewrap_key", row["session_key"], row["master_id"], newest, wrapped)
            rewrapped += told["done"]
        after = rows[-1]["session_key"]
    if rewrapped:
        await _tell(database, "note_rotation", by, {"master_key": newest, "sessions": rewrapped})
    used = await master_keys_in_use(database)
    return Rotation(
        master_id=newest, rewrapped=rewrapped, left={each: used[each] for each in used if each != newest}
    )


async def master_keys_in_use(database: Database) -> dict[str, int]:
    """How many sessions' keys each master key wraps."""
    return {row["master_id"]: row["sessions"] for row in await database.rows("master_keys_in_use")}


async def erase(database: Database, vault: Vault, session_id: str, *, by: str, reason: str) -> ErasedNow:
    """Destroy the session's data key. Needs no master key.

    Raises `ErasureRefused`: it was stored in clear, has not ended, or a saga of it is open. `SessionMissing`.
    """
    body = ids.canonical({"session_id": session_id, "by": by, "reason": reason})
    said = {"id": secrets.token_hex(8), "session_id": session_id, "by": by, "reason": reason}
    row = await database.one("erase_session", parameters.clear_json(said), body)
    vault.forget(session_id)
    return ErasedNow(**row)


async def note_contents_read(database: Database, session_ids: Iterable[str], *, by: str, command: str) -> None:
    """On record before they are shown: who had the sessions' contents decrypted, and with which command."""
    await _tell(database, "note_contents_read", by, {"sessions": sorted(session_ids), "command": command})


async def readings(database: Database, session_id: str) -> list[Reading]:
    """Who had the session's contents decrypted, oldest first."""
    return [Reading(**row) for row in await database.rows("contents_readings", session_id)]


async def _tell(database: Database, statement: str, by: str, said: Mapping[str, Any]) -> None:
    columns = {"id": secrets.token_hex(8), "by": by}
    await database.rows(statement, parameters.clear_json(columns), ids.canonical({"by": by, **said}))
