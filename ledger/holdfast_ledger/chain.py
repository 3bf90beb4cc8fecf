"""A session's chain as it is hashed: recomputed from rows or from an export, with nothing else at hand.

The hash of an entry covers every stored byte of it and the hash before, so the first entry that does not fit is
the first one that was changed, moved, added or lost. What this cannot see: a whole chain rewritten, head and all.
Checkpoints see that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

VERSION = 1
_NULL = b"\xff" * 8
_DOMAIN = len("holdfast.entry.1").to_bytes(8, "big") + b"holdfast.entry.1"
_LENGTHS = tuple(length.to_bytes(8, "big") for length in range(4096))


class ChainEntry(NamedTuple):
    """One entry as it is hashed. Times are microseconds since 1970 in UTC; `key_id` None is a plain body.

    A tuple, not a dataclass: millions are made while a ledger is verified.
    """

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
class Point:
    """A place in a chain: entry `seq` has the hash `head`. Entry 0 is the chain's start."""

    seq: int
    head: bytes


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Where a session's chain stands: `seq` entries, the last one with hash `head`."""

    session_id: str
    session_key: str
    seq: int
    head: bytes


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`problem` None: the chain is whole. Otherwise what is wrong, with entry `bad_seq` as the first bad one.

    `entries` were looked at; `archived` ones are in an archive's file instead. Checkpoints vouch for the entries up
    to `covered`.
    """

    session_id: str
    entries: int
    problem: str | None = None
    bad_seq: int | None = None
    archived: int = 0
    covered: int = 0

    @property
    def ok(self) -> bool:
        return self.problem is None


def entry_hash(entry: ChainEntry) -> bytes:
    """The same bytes as `holdfast.entry_hash` in Postgres, version 1."""
    values: tuple[str | bytes | int | None, ...] = entry
    fields = (values[-2], values[0], *values[2:-2])  # all but the version, which the domain says, and the hash
    return hashlib.sha256(_DOMAIN + b"".join([_prefixed(field) for field in fields])).digest()


def chain_start(session_id: str, session_key: str) -> bytes:
    """What the first entry of a session points back to."""
    return prefixed_hash("holdfast.chain.1", session_id, session_key)


def prefixed_hash(*fields: str | bytes | int | None) -> bytes:
    """SHA-256 of the fields, each after its length."""
    return hashlib.sha256(prefixed(*fields)).digest()


def prefixed(*fields: str | bytes | int | None) -> bytes:
    """Each field after its length, so that no two lists of fields are the same bytes."""
    return b"".join(map(_prefixed, fields))


def _prefixed(value: str | bytes | int | None) -> bytes:
    """A length of 8 bytes and the value; null has a length no value can have."""
    if value is None:
        return _NULL
    data = value if isinstance(value, bytes) else str(value).encode()
    length = len(data)
    return (_LENGTHS[length] if length < 4096 else length.to_bytes(8, "big")) + data


class ChainCheck:
    """One chain being verified, entry by entry, up to the first that is bad.

    `archive`: entries up to there are in a file. `since`: entries before it were verified already; it is read again
    and must have its hash.
    """

    def __init__(
        self,
        chain: Chain,
        *,
        archive: Point | None = None,
        since: Point | None = None,
        claims: Iterable[Point] = (),
    ) -> None:
        self._chain = chain
        self._claims = {claim.seq: claim.head for claim in claims}
        self._archive = archive
        self._covered = max(self._claims, default=0)
        start = archive or Point(seq=0, head=chain_start(chain.session_id, chain.session_key))
        self._expected = start.seq + 1
        self._prev: bytes | None = start.head
        if since and since.seq > start.seq:
            self._expected, self._prev = since.seq, None
        self._read = 0
        self._bad = self._wrong_archive()

    def read(self, entries: Iterable[ChainEntry]) -> None:
        """The next entries."""
        if self._bad:
            return
        expected, prev = self._expected, self._prev
        for entry in entries:
            self._read += 1
            problem = _wrong(entry, expected, prev, self._claims)
            if problem:
                self._bad = (min(entry.seq, expected), problem)
                return
            expected, prev = entry.seq + 1, entry.hash
        self._expected, self._prev = expected, prev

    def verdict(self) -> Verdict:
        """After the last entry was read."""
        bad_seq, problem = self._bad or self._wrong_end() or (None, None)
        return Verdict(
            session_id=self._chain.session_id,
            entries=self._read,
            problem=problem,
            bad_seq=bad_seq,
            archived=self._archive.seq if self._archive else 0,
            covered=0 if problem else self._covered,
        )

    def _wrong_archive(self) -> tuple[int, str] | None:
        if self._archive and self._archive.seq and self._claims.get(self._archive.seq) != self._archive.head:
            return self._archive.seq, f"the archive says of entry {self._archive.seq} what no checkpoint says"
        return None

    def _wrong_end(self) -> tuple[int, str] | None:
        chain, last = self._chain, self._expected - 1
        if last < chain.seq:
            return last + 1, f"the chain stands at entry {chain.seq}, and the entries after {last} are missing"
        if last > chain.seq:
            return chain.seq + 1, f"entry {chain.seq + 1} and those after it were never written by the ledger"
        if last and self._prev != chain.head:
            return last, "the last entry is not the one the chain ends with"
        if self._covered > last:
            return last + 1, f"a checkpoint knows {self._covered} entries, and those after {last} were cut off"
        return None


def _wrong(entry: ChainEntry, expected: int, prev: bytes | None, claims: dict[int, bytes]) -> str | None:
    seq = entry.seq
    if seq > expected:
        return f"entry {expected} is missing"
    if seq < expected:
        return f"entry {seq} is there twice"
    if entry.version != VERSION:
        return f"entry {seq} has hash version {entry.version}, which this verifier does not know"
    if entry_hash(entry) != entry.hash:
        return f"entry {seq} was changed: its content does not have the hash it carries"
    if prev is not None and entry.prev != prev:
        return f"entry {seq} does not follow the entry before it: one of the two was replaced"
    if claims.get(seq, entry.hash) != entry.hash:
        return f"entry {seq} is not the one a checkpoint knows: the chain was written anew"
    return None
