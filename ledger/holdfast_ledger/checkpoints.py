"""Checkpoints: a signed, numbered log of where all chains stood, each over the one before.

What a chain alone cannot show, a checkpoint that somebody kept elsewhere does: a session that is gone, a chain
written anew, a database that was put back. The root is a Merkle tree hash (RFC 6962), so that the export of one
session proves its place in a checkpoint without naming the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from holdfast_ledger.chain import prefixed
from holdfast_ledger.signing import TrustedKeys

VERSION = 1
BEFORE_THE_FIRST = bytes(32)
LOG = "@checkpoints"
"""Stands in a verdict where a session's id would: no session can have it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Advance:
    """A session's chain stood at entry `seq`, whose hash is `head`."""

    session_id: str
    session_key: str
    seq: int
    head: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """One checkpoint without its advances. `at` is microseconds since 1970; `advances` counts them."""

    number: int
    version: int
    at: int
    prev: bytes
    advances: int
    root: bytes
    key_id: str
    hash: bytes
    signature: bytes

    @property
    def statement(self) -> bytes:
        """What is signed."""
        return statement(self.number, self.at, self.prev, self.advances, self.root, self.key_id)


@dataclass(frozen=True, kw_only=True)
class Inclusion:
    """A checkpoint, and the proof that one chain's advance is number `index` of those it was made over."""

    checkpoint: Checkpoint
    advance: Advance
    index: int
    proof: tuple[bytes, ...]


def statement(number: int, at: int, prev: bytes, advances: int, root: bytes, key_id: str) -> bytes:
    """The same bytes as in `holdfast.checkpoint_hash` in Postgres, version 1."""
    return prefixed("holdfast.checkpoint.1", number, at, prev, advances, root, key_id)


def leaf(advance: Advance) -> bytes:
    fields = prefixed(advance.session_id, advance.session_key, advance.seq, advance.head)
    return hashlib.sha256(b"\x00" + fields).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The Merkle tree hash of at least one leaf."""
    level = list(leaves)
    while len(level) > 1:  # a node without a sibling goes up as it is: the same tree as RFC 6962 defines
        paired = [_node(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level = paired + level[len(level) & ~1 :]
    return level[0]


def proof_of(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The siblings from a leaf up to the root."""
    level, proof = list(leaves), []
    while len(level) > 1:
        if index ^ 1 < len(level):
            proof.append(level[index ^ 1])
        paired = [_node(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level, index = paired + level[len(level) & ~1 :], index // 2
    return tuple(proof)


def root_by_proof(lone: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root that a leaf's siblings lead to; None where there are not as many as a tree of this size has."""
    siblings = list(proof)
    if not 0 <= index < size:
        return None
    while size > 1:
        if index ^ 1 < size:
            if not siblings:
                return None
            sibling = siblings.pop(0)
            lone = _node(sibling, lone) if index & 1 else _node(lone, sibling)
        index, size = index // 2, (size + 1) // 2
    return None if siblings else lone


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def wrong_with(checkpoint: Checkpoint, trusted: TrustedKeys) -> str | None:
    """What is wrong with a checkpoint taken alone; its advances are not looked at."""
    number = checkpoint.number
    if checkpoint.version != VERSION:
        return f"checkpoint {number} has version {checkpoint.version}, which this verifier does not know"
    if hashlib.sha256(checkpoint.statement).digest() != checkpoint.hash:
        return f"checkpoint {number} was changed: what it says does not have the hash it carries"
    if problem := trusted.problem(checkpoint.key_id, checkpoint.statement, checkpoint.signature):
        return f"checkpoint {number} {problem}"
    return None


def wrong_inclusion(inclusion: Inclusion, trusted: TrustedKeys) -> str | None:
    """What is wrong with a checkpoint that vouches for one chain."""
    checkpoint = inclusion.checkpoint
    if problem := wrong_with(checkpoint, trusted):
        return problem
    found = root_by_proof(leaf(inclusion.advance), inclusion.index, checkpoint.advances, inclusion.proof)
    if found != checkpoint.root:
        return f"checkpoint {checkpoint.number} does not say that entry {inclusion.advance.seq} is this one"
    return None


class LogCheck:
    """The log of checkpoints being verified, one after the other, up to the first that is bad.

    `held`: checkpoints somebody kept elsewhere; the log must have exactly these. `at_least`: it must reach that.
    """

    def __init__(self, trusted: TrustedKeys, held: Iterable[Checkpoint] = (), *, at_least: int = 0) -> None:
        self._trusted = trusted
        self._at_least = at_least
        self._held = {checkpoint.number: checkpoint for checkpoint in held}
        self._seen: dict[bytes, int] = {}
        self._last: Checkpoint | None = None
        self.bad: tuple[int, str] | None = None
        self.read = 0

    def next(self, checkpoint: Checkpoint, advances: Sequence[Advance]) -> None:
        if self.bad:
            return
        self.read += 1
        expected = self._last.number + 1 if self._last else 1
        problem = self._wrong_place(checkpoint, expected) or self._wrong(checkpoint, advances)
        if problem:
            self.bad = (min(expected, checkpoint.number), problem)
            return
        self._seen[checkpoint.signature] = checkpoint.number
        self._last = checkpoint

    def finish(self) -> None:
        """After the last one: the log may not end before what is held."""
        last = self._last.number if self._last else 0
        beyond = max(self._held, default=self._at_least)
        if not self.bad and beyond > last:
            problem = f"there was a checkpoint {beyond}, and the log ends at {last}: it was put back, or cut"
            self.bad = (last + 1, problem)

    def _wrong_place(self, checkpoint: Checkpoint, expected: int) -> str | None:
        if checkpoint.number > expected:
            return f"checkpoint {expected} is missing"
        if (first := self._seen.get(checkpoint.signature)) is not None:
            return f"checkpoint {checkpoint.number} is checkpoint {first} again"
        held = self._held.get(checkpoint.number)
        if held and held != checkpoint:
            return f"checkpoint {checkpoint.number} is not the one that is held: the log was put back or rewritten"
        return None

    def _wrong(self, checkpoint: Checkpoint, advances: Sequence[Advance]) -> str | None:
        if problem := wrong_with(checkpoint, self._trusted):
            return problem
        if checkpoint.prev != (self._last.hash if self._last else BEFORE_THE_FIRST):
            return f"checkpoint {checkpoint.number} does not follow the one before it: one of the two was replaced"
        if len(advances) != checkpoint.advances or root_of([leaf(each) for each in advances]) != checkpoint.root:
            return f"checkpoint {checkpoint.number} was made over other sessions than stand beside it"
        return None
