"""Proving that nobody edited the record in a database: its chains, its checkpoints, its archives, its guards.

Everything is hashed here, never by the database's own functions, which whoever edits the record could edit too.
What this cannot see from the database alone: all of it put back or rewritten together. A checkpoint that somebody
kept elsewhere shows that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from operator import itemgetter
from uuid import UUID

import asyncpg

from holdfast import ids
from holdfast_ledger.chain import Chain, ChainCheck, ChainEntry, Point, Verdict
from holdfast_ledger.checkpointing import read_log
from holdfast_ledger.checkpoints import LOG, Checkpoint, LogCheck
from holdfast_ledger.database import Database, Rows
from holdfast_ledger.errors import SessionArchived, SessionMissing
from holdfast_ledger.guards import weakness_of
from holdfast_ledger.signing import TrustedKeys

GUARDS = "@guards"
ARCHIVES = "@archives"
"""These, and `@checkpoints`, stand in a verdict where a session's id would: no session can have them."""

_SESSIONS_AT_ONCE = 500
_ENTRIES_AT_ONCE = 10_000


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A chain as it was read: where to begin with it, and what checkpoints say of it."""

    chain: Chain
    archive: Point | None = None
    archive_file: str | None = None
    since: Point | None = None
    claims: tuple[Point, ...] = ()

    @property
    def first(self) -> int:
        """The first entry to be read."""
        return max(self.archive.seq + 1 if self.archive else 1, self.since.seq if self.since else 1)


async def verify_session(database: Database, session_id: str, *, since: int = 0) -> Verdict:
    """Raises `SessionMissing` where nothing knows of such a session, `LedgerUnavailable`."""
    async for verdict in _verify(database, session_id, since):
        return verdict
    raise SessionMissing(f"There is no session `{session_id}`.")


async def verify_all(database: Database, *, since: int = 0) -> AsyncIterator[Verdict]:
    """Every session's verdict, oldest session first, then those of sessions that only a checkpoint remembers.

    `since`: the number of a checkpoint. What is older is not read again, only that it still stands as it said.
    """
    async for verdict in _verify(database, None, since):
        yield verdict


async def verify_checkpoints(
    database: Database, trusted: TrustedKeys, *, held: Iterable[Checkpoint] = (), at_least: int = 0
) -> Verdict:
    """The whole log, and that it holds what somebody kept elsewhere and reaches a number somebody remembers."""
    check = LogCheck(trusted, held, at_least=at_least)
    async for checkpoint, advances in read_log(database):
        check.next(checkpoint, advances)
    check.finish()
    bad_number, problem = check.bad or (None, None)
    return Verdict(session_id=LOG, entries=check.read, problem=problem, bad_seq=bad_number)


async def verify_archives(database: Database) -> Verdict:
    """Every archive on record was told in the chain `@operations`, with its file's digest."""
    rows = await database.rows("archives")
    for row in rows:
        if row["told"] != archive_told(row["session_id"], row["seq"], row["head"], row["file"], row["file_digest"]):
            problem = f"the archive of `{row['session_id']}` ({row['file']}) was never told in `@operations`"
            return Verdict(session_id=ARCHIVES, entries=len(rows), problem=problem)
    return Verdict(session_id=ARCHIVES, entries=len(rows))


def archive_told(session_id: str, seq: int, head: bytes, file: str, file_digest: str) -> bytes:
    """The body of the entry that an archive is told with."""
    told = {"session": session_id, "entries": seq, "head": head.hex(), "file": file, "sha256": file_digest}
    return ids.canonical(told)


async def verify_guards(database: Database) -> Verdict:
    """What keeps the record from being edited is in place, as the database's catalogue tells it."""
    async with database.snapshot() as rows:
        weakness, looked_at = await weakness_of(rows)
    return Verdict(session_id=GUARDS, entries=looked_at, problem=weakness)


async def _verify(database: Database, session_id: str | None, since: int) -> AsyncIterator[Verdict]:
    """Some sessions at a time, each time in one snapshot, since living sessions grow."""
    after = None
    while True:
        async with database.snapshot() as rows:
            standings = await _standings(rows, session_id, after, since)
            entries = await _entries(rows, standings)
            verdicts = [await _verdict(rows, each, entries[each.chain.session_key]) for each in standings]
        for verdict in verdicts:
            yield verdict
        if session_id is not None or not standings:
            break
        after = standings[-1].chain.session_key
    for row in await database.rows("lost_sessions", session_id):
        problem = f"the session is gone: checkpoint {row['number']} knows {row['seq']} entries of it"
        yield Verdict(session_id=row["session_id"], entries=0, problem=problem, bad_seq=1)


async def _verdict(rows: Rows, standing: Standing, entries: list[ChainEntry]) -> Verdict:
    """`entries` were read with those of other sessions; what a long one has beyond them is read here."""
    check = ChainCheck(standing.chain, archive=standing.archive, since=standing.since, claims=standing.claims)
    check.read(entries)
    async for more in _rest(rows, standing, entries):
        check.read(more)
    return check.verdict()


async def read_chain(database: Database, session_id: str) -> tuple[Chain, list[ChainEntry]]:
    """A chain with all its entries. Raises `SessionMissing`, `SessionArchived`, `LedgerUnavailable`."""
    async with database.snapshot() as rows:
        standings = await _standings(rows, session_id, None, 0)
        if not standings:
            raise SessionMissing(f"There is no session `{session_id}`.")
        standing = standings[0]
        if standing.archive:
            raise SessionArchived(f"The record of `{session_id}` is in an archive: `{standing.archive_file}`.")
        entries = (await _entries(rows, standings))[standing.chain.session_key]
        rest = [entry async for more in _rest(rows, standing, entries) for entry in more]
    return standing.chain, entries + rest


async def _standings(rows: Rows, session_id: str | None, after: str | None, since: int) -> list[Standing]:
    """As many chains as may be held in memory with their entries, at least one where there is one."""
    found = []
    total = 0
    for row in await rows("chains", session_id, after, _SESSIONS_AT_ONCE, since):
        found.append(row)
        total += min(row["seq"], _ENTRIES_AT_ONCE)
        if total >= _ENTRIES_AT_ONCE:
            break
    claims: dict[str, list[Point]] = {str(row["session_key"]): [] for row in found}
    for row in await rows("chain_claims", list(claims)):
        claims[str(row["session_key"])].append(Point(seq=row["seq"], head=row["head"]))
    return [_standing(row, claims[str(row["session_key"])]) for row in found]


def _standing(row: asyncpg.Record, claims: list[Point]) -> Standing:
    chain = Chain(session_id=row["id"], session_key=str(row["session_key"]), seq=row["seq"], head=row["head"])
    archive = Point(seq=row["archive_seq"], head=row["archive_head"]) if row["archive_seq"] is not None else None
    since = next((claim for claim in claims if claim.seq == row["since_seq"]), None)
    file = row["archive_file"]
    return Standing(chain=chain, archive=archive, archive_file=file, since=since, claims=tuple(claims))


async def _entries(rows: Rows, standings: list[Standing]) -> dict[str, list[ChainEntry]]:
    """The first entries of each session that are to be read."""
    entries: dict[str, list[ChainEntry]] = {each.chain.session_key: [] for each in standings}
    by_key = {UUID(session_key): of for session_key, of in entries.items()}
    firsts = [each.first for each in standings]
    for row in await rows("chain_entries", list(by_key), firsts, _ENTRIES_AT_ONCE):
        session_key, *columns = row
        by_key[session_key].append(ChainEntry._make(columns))
    for each in entries.values():
        each.sort(key=itemgetter(0))
    return entries


async def _rest(rows: Rows, standing: Standing, entries: list[ChainEntry]) -> AsyncIterator[list[ChainEntry]]:
    while len(entries) == _ENTRIES_AT_ONCE:
        read = [UUID(standing.chain.session_key)], [entries[-1].seq + 1]
        entries = [ChainEntry._make(row[1:]) for row in await rows("chain_entries", *read, _ENTRIES_AT_ONCE)]
        yield entries
