"""The messages of a session along one branch, with the results of its calls filled in.

A stored message never changes and its head names all before it, so what a worker has read, or has written itself,
is still true whoever worked on the session meanwhile. A worker that stays with its session reads nothing.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from holdfast import ids
from holdfast.errors import HeadMissing
from holdfast.states import EffectState
from holdfast_ledger import parameters, places
from holdfast_ledger.database import Database
from holdfast_ledger.records import Claim, Incoming, Record, Recorded, StoredMessage, TurnRecord
from holdfast_ledger.sealing import Erased, Seal

CACHE_BYTES = 64 * 1024 * 1024
_FINAL = frozenset({EffectState.DONE, EffectState.FAILED})
"""States that stay; what is told of any other effect may still change."""


@dataclass(frozen=True)
class Branch:
    """All messages up to a head. `size`: bytes of their bodies and results."""

    head: str
    messages: tuple[StoredMessage, ...] = ()
    size: int = 0

    def grown(self, new: Sequence[StoredMessage], size: int) -> Branch:
        return Branch(new[-1].head, (*self.messages, *new), self.size + size)


@dataclass
class _Kept:
    branch: Branch
    shown: dict[str, str | None]
    """The calls of the branch's last answer by effect id, with what the model sees of those that are settled."""
    size: int


@dataclass
class Transcripts:
    """The branch of each session that was worked on last, the least used forgotten first.

    What this process writes is added once Postgres has accepted it, and only as it would be read again.
    """

    capacity: int = CACHE_BYTES
    """Bytes of message bodies and results."""
    _kept: OrderedDict[str, _Kept] = field(default_factory=OrderedDict, init=False)
    _size: int = field(default=0, init=False)

    def branch(self, session_id: str) -> Branch:
        kept = self._kept.get(session_id)
        if kept is None:
            return Branch(ids.first_head(session_id))
        self._kept.move_to_end(session_id)
        return kept.branch

    def shown(self, session_id: str) -> dict[str, str]:
        """What the model sees of calls, by effect id, as far as it is known."""
        kept = self._kept.get(session_id)
        return {effect: text for effect, text in kept.shown.items() if text is not None} if kept else {}

    def put(self, session_id: str, branch: Branch, calls: Iterable[str] = ()) -> None:
        """Keep this branch of the session. `calls`: effect ids of its last answer's."""
        self.forget(session_id)
        self._kept[session_id] = _Kept(branch, dict.fromkeys(calls), branch.size)
        self._make_room(branch.size)

    def forget(self, session_id: str) -> None:
        gone = self._kept.pop(session_id, None)
        self._size -= gone.size if gone else 0

    def claimed(self, claim: Claim) -> None:
        """The first attempt at a turn was granted: the messages it brought are in the transcript.

        Those of a later attempt may have been there before, and with another id.
        """
        branch, shown = self.branch(claim.session_id), self.shown(claim.session_id)
        if not claim.incoming or claim.parent != branch.head:
            return
        contents = [_content(message, shown) for message in claim.incoming]
        if None in contents:
            return  # sent by digest, or called elsewhere: it has to be read
        new = [_incoming(message, content) for message, content in zip(claim.incoming, contents, strict=True)]
        size = sum(len(message.body or b"") for message in claim.incoming) + sum(map(len, shown.values()))
        self.put(claim.session_id, branch.grown(new, size))

    def answered(self, turn: TurnRecord) -> None:
        """The turn's record was accepted."""
        branch = self.branch(turn.session_id)
        if turn.head != branch.head:
            return
        new = branch.grown([_answer(turn)], len(turn.body))
        self.put(turn.session_id, new, [call.effect_id for call in turn.calls])

    def settled(self, record: Record, recorded: Recorded) -> None:
        """The record of a call was accepted."""
        kept = self._kept.get(record.session_id)
        if kept is None or record.effect_id not in kept.shown or not record.state == recorded.state in _FINAL:
            return
        body = record.result if record.shown is None else record.shown
        text = str((recorded.outcome or {}).get("text") or "") if body is None else _decoded(body)
        if kept.shown[record.effect_id] is None:
            kept.shown[record.effect_id] = text
            kept.size += len(text)
            self._make_room(len(text))

    def _make_room(self, size: int) -> None:
        self._size += size
        while self._size > self.capacity:
            self.forget(next(iter(self._kept)))


def _content(message: Incoming, shown: Mapping[str, str]) -> Any:
    """As it would be read; None where that is not known here."""
    if message.body is None:
        return None
    content = json.loads(message.body)
    if message.role != "results":
        return content
    return None if set(_wanted(content)) - shown.keys() else [_filled(each, shown) for each in content]


def _incoming(message: Incoming, content: Any) -> StoredMessage:
    message_id = None if message.message_id is None else parameters.clear(message.message_id)
    return StoredMessage(
        head=message.head, role=message.role, turn=message.turn, content=content, message_id=message_id
    )


def _answer(turn: TurnRecord) -> StoredMessage:
    return StoredMessage(
        head=turn.next_head,
        role="assistant",
        turn=turn.turn,
        content=json.loads(turn.body),  # its keys in the order in which they are read: what is sent stays the same
        context=turn.usage.total,
        counted=turn.counted,
        stop_reason=None if turn.stop_reason is None else parameters.clear(turn.stop_reason),
    )


async def transcript(
    database: Database, seal: Seal, session_id: str, head: str, cache: Transcripts
) -> tuple[StoredMessage, ...]:
    """All messages up to `head`, oldest first. Raises `HeadMissing` where the branch is not complete."""
    if isinstance(seal, Erased):
        cache.forget(session_id)
    first, known = ids.first_head(session_id), cache.branch(session_id)
    if head == first:
        return ()
    if head == known.head:
        return known.messages
    rows = await database.rows("transcript", session_id, head, known.head)
    if not rows or rows[0]["parent"] not in (first, known.head):
        raise HeadMissing(f"The transcript of session `{session_id}` has no unbroken line to head `{head}`.")
    if rows[0]["parent"] != known.head:
        known = Branch(first)  # another branch
    new, size = await _messages(database, seal, rows, cache.shown(session_id))
    branch = known.grown(new, size)
    cache.put(session_id, branch)
    return branch.messages


async def _messages(
    database: Database, seal: Seal, rows: list[asyncpg.Record], known: Mapping[str, str]
) -> tuple[list[StoredMessage], int]:
    """The messages of these rows, and their size in bytes. `known`: what the model sees of some calls."""
    contents = [json.loads(seal.open(places.content(row["digest"]), row["body"])) for row in rows]
    references = [
        reference
        for row, content in zip(rows, contents, strict=True)
        if row["role"] == "results"
        for reference in content
    ]
    shown = await _shown(database, seal, references, known)
    size = sum(len(row["body"]) for row in rows) + sum(len(text) for text in shown.values())
    messages = [
        StoredMessage(
            head=row["head"],
            role=row["role"],
            turn=row["turn"],
            content=[_filled(each, shown) for each in content] if row["role"] == "results" else content,
            message_id=row["message_id"],
            context=row["context"],
            counted=row["counted"],
            stop_reason=row["stop_reason"],
        )
        for row, content in zip(rows, contents, strict=True)
    ]
    return messages, size


async def _shown(
    database: Database, seal: Seal, references: list[dict[str, Any]], known: Mapping[str, str]
) -> dict[str, str]:
    """What the model sees of each referenced effect."""
    wanted = _wanted(references)
    found = {each: known[each] for each in wanted if each in known}
    if len(found) < len(wanted):
        rows = await database.rows("shown_results", [each for each in wanted if each not in found])
        found |= {row["effect_id"]: _text(row, seal) for row in rows}
    return found


def _wanted(references: list[dict[str, Any]]) -> list[str]:
    """Effects whose rows hold the texts."""
    return [each["effect_id"] for each in references if each.get("text") is None and each.get("effect_id")]


def _text(row: asyncpg.Record, seal: Seal) -> str:
    for column in ("shown", "result"):
        if row[column] is not None:
            return _decoded(seal.open(places.effect(column, row["effect_id"]), row[column]))
    if row["outcome"] is None:
        return ""
    outcome = json.loads(places.opened(seal, places.effect("outcome", row["effect_id"]), row["outcome"]))
    return seal.open_text(places.REASON, str(outcome.get("text") or ""))


def _decoded(body: bytes) -> str:
    return body.decode("utf-8", "surrogatepass")


def _filled(reference: dict[str, Any], shown: Mapping[str, str]) -> dict[str, Any]:
    text = reference.get("text")
    if text is None:
        text = shown.get(reference.get("effect_id", ""), "")
    return {"tool_use_id": reference["tool_use_id"], "status": reference["status"], "text": text}
