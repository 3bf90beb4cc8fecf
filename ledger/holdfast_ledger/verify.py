"""Proving that nobody edited the record: recompute a session's chain, from rows or from an export.

The hash of an entry covers every stored byte of it and the hash before, so the first entry that does not fit is
the first one that was changed, moved, added or lost. What this cannot see: a whole chain rewritten, head and all.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import asyncpg

from holdfast_ledger.database import Database
from holdfast_ledger.errors import SessionMissing

VERSION = 1
_NULL = b"\xff" * 8


@dataclass(frozen=True, slots=True)
class ChainEntry:
    """One entry as it is hashed. Times are microseconds since 1970 in UTC; `key_id` None is a plain body."""

    seq: int
    version: int
    fact_key: str
    fact_digest: bytes
    kind: str
    at: int
    recorded_at: int
    turn: int | None
    call: str | None
    effect_id: str | None
    token: int | None
    saga_id: str | None
    tool: str | None
    tier: str | None
    outcome: str | None
    actor: str | None
    args_digest: str | None
    latency_us: int | None
    key_id: str | None
    body: bytes
    prev: bytes
    hash: bytes


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Where a session's chain stands: `seq` entries, the last one with hash `head`."""

    session_id: str
    session_key: str
    seq: int
    head: bytes


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`problem` None: the chain is whole. Otherwise what is wrong, with entry `bad_seq` as the first bad one."""

    session_id: str
    entries: int
    problem: str | None = None
    bad_seq: int | None = None

    @property
    def ok(self) -> bool:
        return self.problem is None


def entry_hash(entry: ChainEntry) -> bytes:
    """The same bytes as `holdfast.entry_hash` in Postgres, version 1."""
    fields = (
        "holdfast.entry.1",
        entry.prev,
        entry.seq,
        entry.fact_key,
        entry.fact_digest,
        entry.kind,
        entry.at,
        entry.recorded_at,
        entry.turn,
        entry.call,
        entry.effect_id,
        entry.token,
        entry.saga_id,
        entry.tool,
        entry.tier,
        entry.outcome,
        entry.actor,
        entry.args_digest,
        entry.latency_us,
        entry.key_id,
        entry.body,
    )
    return hashlib.sha256(b"".join(map(_prefixed, fields))).digest()


def chain_start(session_id: str, session_key: str) -> bytes:
    """What the first entry of a session points back to."""
    return hashlib.sha256(b"".join(map(_prefixed, ("holdfast.chain.1", session_id, session_key)))).digest()


def _prefixed(value: str | bytes | int | None) -> bytes:
    """A length of 8 bytes and the value; null has a length no value can have."""
    if value is None:
        return _NULL
    data = value if isinstance(value, bytes) else str(value).encode()
    return len(data).to_bytes(8, "big") + data


def verify_chain(chain: Chain, entries: Iterable[ChainEntry]) -> Verdict:
    """Compare a session's entries, oldest first, with each other and with where the chain says it stands."""
    expected, prev, number = 1, chain_start(chain.session_id, chain.session_key), 0
    for entry in entries:
        number += 1
        problem = _wrong(entry, expected, prev)
        if problem:
            return Verdict(
                session_id=chain.session_id, entries=number, problem=problem, bad_seq=min(entry.seq, expected)
            )
        expected, prev = entry.seq + 1, entry.hash
    last = expected - 1
    if last < chain.seq:
        problem = f"the chain stands at entry {chain.seq}, and the entries after {last} are missing"
    elif last > chain.seq:
        problem = f"entry {chain.seq + 1} and those after it were never written by the ledger"
    elif last and prev != chain.head:
        problem = "the last entry is not the one the chain ends with"
    else:
        return Verdict(session_id=chain.session_id, entries=number)
    bad = min(last, chain.seq) + (0 if last == chain.seq else 1)
    return Verdict(session_id=chain.session_id, entries=number, problem=problem, bad_seq=bad)


def _wrong(entry: ChainEntry, expected: int, prev: bytes) -> str | None:
    if entry.seq > expected:
        return f"entry {expected} is missing"
    if entry.seq < expected:
        return f"entry {entry.seq} is there twice"
    if entry.version != VERSION:
        return f"entry {entry.seq} has hash version {entry.version}, which this verifier does not know"
    if entry_hash(entry) != entry.hash:
        return f"entry {entry.seq} was changed: its content does not have the hash it carries"
    if entry.prev != prev:
        return f"entry {entry.seq} does not follow the entry before it: one of the two was replaced"
    return None


async def verify_session(database: Database, session_id: str) -> Verdict:
    """Raises `SessionMissing`, `LedgerUnavailable`."""
    async for chain, entries in read_chains(database, session_id):
        return verify_chain(chain, entries)
    raise SessionMissing(f"There is no session `{session_id}`.")


async def verify_all(database: Database) -> AsyncIterator[Verdict]:
    """Every session's verdict, oldest session first."""
    async for chain, entries in read_chains(database, None):
        yield verify_chain(chain, entries)


_SESSIONS_AT_ONCE = 200
_ENTRIES_AT_ONCE = 20_000


async def read_chains(database: Database, session_id: str | None) -> AsyncIterator[tuple[Chain, list[ChainEntry]]]:
    """Chains with all their entries: of one session, or of all in the order they began.

    Each batch of sessions is read in one snapshot, since living sessions grow.
    """
    after = None
    while True:
        async with database.snapshot() as rows:
            chains = _first_chains(await rows("chains", session_id, after, _SESSIONS_AT_ONCE))
            entries: dict[str, list[ChainEntry]] = {chain.session_key: [] for chain in chains}
            for row in await rows("chain_entries", list(entries)):
                session_key, *columns = row.values()
                entries[str(session_key)].append(ChainEntry(*columns))
        for chain in chains:
            yield chain, entries[chain.session_key]
        if session_id is not None or not chains:
            return
        after = chains[-1].session_key


def _first_chains(rows: list[asyncpg.Record]) -> list[Chain]:
    """As many chains as may be held in memory with their entries, at least one."""
    chains: list[Chain] = []
    total = 0
    for row in rows:
        chains.append(
            Chain(session_id=row["id"], session_key=str(row["session_key"]), seq=row["seq"], head=row["head"])
        )
        total += row["seq"]
        if total >= _ENTRIES_AT_ONCE:
            break
    return chains
