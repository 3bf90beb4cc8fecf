"""The data keys of sessions, as this process knows them: made with the session, fetched once, kept for a while.

A session has a key or has none from its first row on, and that never changes; only erasure takes the key away.
Without a key service nothing is asked of Postgres here.
"""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg

from holdfast_ledger.database import Database
from holdfast_ledger.errors import KeyMissing
from holdfast_ledger.master_keys import KeyService
from holdfast_ledger.sealing import CLEAR, Erased, Seal, SessionKey

MOST_KEPT = 1000
"""Sessions whose key is kept in memory; a session that comes back costs one more query."""

Encryption = Literal["auto", "required", "off"]
"""Of new sessions. `auto`: where there is a master key."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A key for a session that may not be there yet; `columns` go with what creates its row."""

    key: SessionKey
    columns: Mapping[str, str]


class Vault:
    def __init__(
        self, database: Database, keys: KeyService | None = None, *, encryption: Encryption = "auto"
    ) -> None:
        self._database = database
        self._keys = keys
        self.encryption = encryption
        self._known: OrderedDict[str, Seal] = OrderedDict()

    @property
    def keys(self) -> KeyService:
        """Raises `KeyMissing` where this process has none."""
        if self._keys is None:
            raise KeyMissing
        return self._keys

    async def of(self, session_id: str) -> Seal:
        """How the session's contents are stored. Raises `KeyMissing`, `LedgerUnavailable`."""
        if self._keys is None:
            return CLEAR
        if known := self._remembered(session_id):
            return known
        return (await self.of_all([session_id]))[session_id]

    async def of_all(self, session_ids: Iterable[str]) -> dict[str, Seal]:
        """The same of many, with at most one query. A session that is not there is one in clear."""
        wanted = dict.fromkeys(session_ids)
        if self._keys is None:
            return dict.fromkeys(wanted, CLEAR)
        found = {each: seal for each in wanted if (seal := self._remembered(each))}
        missing = [each for each in wanted if each not in found]
        rows = await self._database.rows("session_keys", missing) if missing else []
        for row in rows:
            found[row["id"]] = await self._seal(row["id"], row)
            self._remember(row["id"], found[row["id"]])
        return {each: found.get(each, CLEAR) for each in wanted}

    async def propose(self, session_id: str) -> Proposal | None:
        """A new key, wrapped; None where new sessions are stored in clear."""
        if self._keys is None or self.encryption == "off":
            return None
        key = SessionKey.fresh(session_id)
        master_id = self._keys.newest
        wrapped = await self._keys.wrap(key.secret, wrapping(session_id, key.key_id))
        encoded = base64.b64encode(wrapped).decode("ascii")
        return Proposal(key=key, columns={"id": key.key_id, "master_id": master_id, "wrapped": encoded})

    @property
    def required(self) -> bool:
        return self.encryption == "required"

    def made(self, session_id: str, proposal: Proposal | None) -> None:
        """This process made the session, with the proposed key."""
        if self._keys is not None:
            self._remember(session_id, proposal.key if proposal else CLEAR)

    async def took(self, session_id: str, proposal: Proposal | None, row: asyncpg.Record | None) -> None:
        """Remember the key that the session turned out to have; `row` None is a session without one."""
        if self._keys is None or session_id in self._known:
            return
        if row is None:
            self._remember(session_id, CLEAR)
        elif proposal is not None and row["key_id"] == proposal.key.key_id:
            self._remember(session_id, proposal.key)
        else:
            self._remember(session_id, await self._key(session_id, row))

    async def find(self, session_id: str, *, ask: bool) -> Seal | None:
        """`of` a session that may not be there: None then. Without `ask` only memory is asked."""
        if self._keys is None:
            return CLEAR
        if ask and session_id not in self._known:
            await self.of_all([session_id])
        return self._remembered(session_id)

    def forget(self, session_id: str) -> None:
        self._known.pop(session_id, None)

    async def _seal(self, session_id: str, row: asyncpg.Record) -> Seal:
        if row["key_id"] is None:
            return CLEAR
        if row["wrapped"] is not None:
            return await self._key(session_id, row)
        if row["erased_at"] is None:
            raise KeyMissing(f"The wrapped key of the session `{session_id}` is not in the database any more.")
        return Erased(key_id=row["key_id"], at=row["erased_at"], by=row["erased_by"])

    async def _key(self, session_id: str, row: asyncpg.Record) -> SessionKey:
        context = wrapping(session_id, row["key_id"])
        secret = await self.keys.unwrap(row["wrapped"], row["master_id"], context)
        return SessionKey(session_id=session_id, key_id=row["key_id"], secret=secret)

    def _remembered(self, session_id: str) -> Seal | None:
        known = self._known.get(session_id)
        if known is not None:
            self._known.move_to_end(session_id)
        return known

    def _remember(self, session_id: str, seal: Seal) -> None:
        self._known[session_id] = seal
        if len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)


def wrapping(session_id: str, key_id: str) -> bytes:
    """What a wrapped key is bound to: it opens for its own session only."""
    return f"holdfast.wrapped.1/{key_id}/{session_id}".encode()


def proposed(proposal: Proposal | None) -> dict[str, Any]:
    """The columns a proposal adds."""
    return {"key": dict(proposal.columns)} if proposal else {}
