"""The ledger as activities and clients use it: one method per SQL function, one round trip each.

Every method may raise `LedgerUnavailable` (Postgres cannot be reached: wait and retry); serialization failures
and deadlocks are retried in process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from holdfast.catalogue import Catalogue
from holdfast.facts import Fact
from holdfast_ledger.records import (
    Chunk,
    Claim,
    ClaimResult,
    Closing,
    Opening,
    Record,
    Recorded,
    Registered,
    Registration,
    StoredMessage,
    TurnRecord,
)


class Ledger:
    """A pool of connections as the app role, and the functions it may call."""

    @classmethod
    async def connect(cls, dsn: str, *, min_size: int = 1, max_size: int = 10) -> Ledger:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def check(self, *, cluster_id: str, namespace: str) -> None:
        """Refuse a schema of another version (`SchemaMismatch`) or the wrong Temporal (`WrongTemporal`)."""
        raise NotImplementedError

    async def register(self, registration: Registration) -> Registered:
        """Announce a session. Raises `SessionIdReused` for the same id with another start."""
        raise NotImplementedError

    async def store_message(self, session_id: str, body: bytes) -> str:
        """Store a user message's content (canonical JSON of text or blocks) and return its digest."""
        raise NotImplementedError

    async def open_session(self, opening: Opening) -> None:
        """Write the row, the catalogue and the first entry; idempotent per first_run_id.

        Raises `SessionIdReused` when another workflow chain already used this id.
        """
        raise NotImplementedError

    async def catalogue(self, digest: str) -> Catalogue:
        """Load by digest; cached, since it is immutable."""
        raise NotImplementedError

    async def claim(self, claim: Claim) -> ClaimResult:
        raise NotImplementedError

    async def renew(self, effect_id: str, token: int, lease: timedelta) -> bool:
        """Extend the lease; False when a newer attempt holds the effect."""
        raise NotImplementedError

    async def record(self, record: Record) -> Recorded:
        raise NotImplementedError

    async def record_turn(self, turn: TurnRecord) -> Recorded:
        raise NotImplementedError

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """The recording transaction of a `Transactional` tool; yields the asyncpg connection."""
        raise NotImplementedError
        yield

    async def record_within(self, connection: Any, record: Record) -> Recorded:
        """`record`, inside `transaction`. Raise to roll both back when it is not accepted."""
        raise NotImplementedError

    async def append(self, session_id: str, facts: tuple[Fact, ...]) -> None:
        """Append facts and apply them to the projections (status, approvals). The same fact twice is one entry.

        Raises `LedgerConflict` for the same key with another body.
        """
        raise NotImplementedError

    async def transcript(self, session_id: str, head: str) -> list[StoredMessage]:
        """All messages up to `head`, along its own branch. Raises `holdfast.errors.HeadMissing`."""
        raise NotImplementedError

    async def result(self, session_id: str, call: str) -> bytes | None:
        """The whole result of a call (for `read_result`), or None."""
        raise NotImplementedError

    async def close_session(self, closing: Closing) -> None:
        raise NotImplementedError

    async def write_chunks(self, chunks: list[Chunk]) -> None:
        """Insert a batch into the unlogged table and notify the sessions' watchers; used by the flusher only."""
        raise NotImplementedError
