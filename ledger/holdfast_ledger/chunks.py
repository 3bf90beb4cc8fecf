"""Pieces of a streaming turn on their way to watchers: an unlogged table and one channel per session."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from holdfast_ledger import places
from holdfast_ledger.database import Database
from holdfast_ledger.records import Chunk
from holdfast_ledger.sealing import Seal
from holdfast_ledger.vault import Vault


def channel(session_id: str) -> str:
    """The NOTIFY channel of a session; Postgres allows 63 bytes, and ids may be longer."""
    return "holdfast_" + hashlib.sha256(session_id.encode()).hexdigest()[:40]


async def write(database: Database, vault: Vault, batch: list[Chunk], touched: Iterable[str] = ()) -> None:
    """Insert the chunks and notify their sessions and those `touched`, in one round trip."""
    sessions = {chunk.session_id for chunk in batch} | set(touched)
    if not sessions:
        return
    seals = await vault.of_all({chunk.session_id for chunk in batch})
    await database.rows(
        "write_chunks",
        [chunk.session_id for chunk in batch],
        [chunk.turn for chunk in batch],
        [chunk.token for chunk in batch],
        [chunk.seq for chunk in batch],
        [chunk.kind for chunk in batch],
        [_body(chunk, seals[chunk.session_id]) for chunk in batch],
        sorted(channel(session) for session in sessions),
    )


def _body(chunk: Chunk, seal: Seal) -> bytes:
    place = places.chunk(chunk.turn, chunk.token, chunk.seq)
    return seal.seal(place, chunk.text.encode("utf-8", "surrogatepass"))
