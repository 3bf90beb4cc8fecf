"""Writing checkpoints, and reading them back. One writer at a time, by a lock that ends with its transaction."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import groupby

import asyncpg

from holdfast_ledger.checkpoints import (
    BEFORE_THE_FIRST,
    VERSION,
    Advance,
    Checkpoint,
    Inclusion,
    leaf,
    proof_of,
    root_of,
    statement,
)
from holdfast_ledger.database import Database, Rows, named_sql
from holdfast_ledger.errors import translated
from holdfast_ledger.signing import SigningKey

_AT_ONCE = 100


async def make_checkpoint(
    database: Database, key: SigningKey, *, wait: bool, interval: timedelta = timedelta()
) -> Checkpoint | None:
    """Sign where all chains stand that went on since the last one; None where none did.

    None, too, where the last one is younger than `interval`, or another writer is at it, for whom this one does
    not `wait`. Raises `LedgerUnavailable`, `CheckpointRefused`.
    """
    async with database.transaction() as connection:
        with translated(database.where):
            if not await connection.fetchval(named_sql()["begin_checkpoint"], wait):
                return None
            last = await connection.fetchrow(named_sql()["last_checkpoint"])
            if last and last["age"] < interval:
                return None
            advances = [Advance(**row) for row in await connection.fetch(named_sql()["advanced_chains"])]
            if not advances:
                return None
            at = await connection.fetchval(named_sql()["microseconds_now"])
            made = signed(key, last, at, advances)
            await connection.execute(
                named_sql()["append_checkpoint"],
                *(made.number, made.at, made.prev, made.root, made.key_id, made.hash, made.signature),
                [advance.session_id for advance in advances],
                [advance.session_key for advance in advances],
                [advance.seq for advance in advances],
                [advance.head for advance in advances],
            )
            return made


def signed(key: SigningKey, last: asyncpg.Record | None, at: int, advances: list[Advance]) -> Checkpoint:
    """The checkpoint that follows `last`, over the advances in their order."""
    number = last["number"] + 1 if last else 1
    prev = last["hash"] if last else BEFORE_THE_FIRST
    root = root_of([leaf(advance) for advance in advances])
    said = statement(number, at, prev, len(advances), root, key.key_id)
    return Checkpoint(
        number=number,
        version=VERSION,
        at=at,
        prev=prev,
        advances=len(advances),
        root=root,
        key_id=key.key_id,
        hash=hashlib.sha256(said).digest(),
        signature=key.sign(said),
    )


async def uncovered(database: Database) -> tuple[int, timedelta]:
    """How many sessions have entries that no checkpoint covers, and the age of the oldest of those."""
    row = await database.one("uncovered")
    return row["sessions"], row["age"] or timedelta()


async def last_checkpoint(database: Database) -> tuple[int, bytes] | None:
    """The newest one's number and hash."""
    row = await database.row("last_checkpoint")
    return (row["number"], row["hash"]) if row else None


async def read_log(database: Database, *, after: int = 0) -> AsyncIterator[tuple[Checkpoint, list[Advance]]]:
    """Every checkpoint after this number with its advances, the oldest first."""
    while True:
        async with database.snapshot() as rows:
            batch = [Checkpoint(**row) for row in await rows("checkpoints", after, _AT_ONCE)]
            advances = await read_advances(rows, [checkpoint.number for checkpoint in batch])
        for checkpoint in batch:
            yield checkpoint, advances.get(checkpoint.number, [])
        if not batch:
            return
        after = batch[-1].number


async def read_advances(rows: Rows, numbers: list[int]) -> dict[int, list[Advance]]:
    found = [dict(row) for row in await rows("checkpoint_advances", numbers)]
    return {
        number: [Advance(**{name: row[name] for name in Advance.__slots__}) for row in group]
        for number, group in groupby(found, key=lambda row: int(row["number"]))
    }


async def read_inclusions(database: Database, session_key: str) -> list[Inclusion]:
    """What every checkpoint says of a session, with proof, the oldest first."""
    async with database.snapshot() as rows:
        vouching = [Checkpoint(**row) for row in await rows("vouching", session_key)]
        found = []
        for checkpoint in vouching:
            advances = (await read_advances(rows, [checkpoint.number]))[checkpoint.number]
            index = [advance.session_key for advance in advances].index(session_key)
            proof = proof_of([leaf(advance) for advance in advances], index)
            found.append(Inclusion(checkpoint=checkpoint, advance=advances[index], index=index, proof=proof))
        return found
