"""The messages of a session along one branch, with the results of its calls filled in.

A stored message never changes and its head names all before it, so what a worker has read once is still true
whoever worked on the session meanwhile.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from holdfast import ids
from holdfast.errors import HeadMissing
from holdfast_ledger import places
from holdfast_ledger.database import Database
from holdfast_ledger.records import StoredMessage
from holdfast_ledger.sealing import Seal

CACHE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class _Kept:
    messages: tuple[StoredMessage, ...]
    size: int


@dataclass
class Transcripts:
    """The branch of each session that was read last, the least used forgotten first."""

    capacity: int = CACHE_BYTES
    """Bytes of message bodies and results."""
    _kept: OrderedDict[str, _Kept] = field(default_factory=OrderedDict, init=False)
    _size: int = field(default=0, init=False)

    def get(self, session_id: str) -> _Kept:
        kept = self._kept.get(session_id)
        if kept is None:
            return _Kept((), 0)
        self._kept.move_to_end(session_id)
        return kept

    def put(self, session_id: str, kept: _Kept) -> None:
        self._forget(session_id)
        self._kept[session_id] = kept
        self._size += kept.size
        while self._size > self.capacity:
            self._forget(next(iter(self._kept)))

    def _forget(self, session_id: str) -> None:
        gone = self._kept.pop(session_id, None)
        self._size -= gone.size if gone else 0


async def transcript(
    database: Database, seal: Seal, session_id: str, head: str, cache: Transcripts
) -> tuple[StoredMessage, ...]:
    """All messages up to `head`, oldest first. Raises `HeadMissing` where the branch is not complete."""
    first, known = ids.first_head(session_id), cache.get(session_id)
    if head == first:
        return ()
    read_to = known.messages[-1].head if known.messages else first
    if head == read_to:
        return known.messages
    rows = await database.rows("transcript", session_id, head, read_to)
    if not rows or rows[0]["parent"] not in (first, read_to):
        raise HeadMissing(f"The transcript of session `{session_id}` has no unbroken line to head `{head}`.")
    if rows[0]["parent"] != read_to:
        known = _Kept((), 0)  # another branch
    new, size = await _messages(database, seal, rows)
    kept = _Kept((*known.messages, *new), known.size + size)
    cache.put(session_id, kept)
    return kept.messages


async def _messages(database: Database, seal: Seal, rows: list[asyncpg.Record]) -> tuple[list[StoredMessage], int]:
    """The messages of these rows, and their size in bytes."""
    contents = [json.loads(seal.open(places.content(row["digest"]), row["body"])) for row in rows]
    references = [
        reference
        for row, content in zip(rows, contents, strict=True)
        if row["role"] == "results"
        for reference in content
    ]
    shown = await _shown(database, seal, references)
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


async def _shown(database: Database, seal: Seal, references: list[dict[str, Any]]) -> dict[str, str]:
    """What the model sees of each referenced effect."""
    wanted = [each["effect_id"] for each in references if each.get("text") is None and each.get("effect_id")]
    if not wanted:
        return {}
    rows = await database.rows("shown_results", wanted)
    return {row["effect_id"]: _text(row, seal) for row in rows}


def _text(row: asyncpg.Record, seal: Seal) -> str:
    for column in ("shown", "result"):
        if row[column] is not None:
            body = seal.open(places.effect(column, row["effect_id"]), row[column])
            return body.decode("utf-8", "surrogatepass")
    if row["outcome"] is None:
        return ""
    outcome = json.loads(places.opened(seal, places.effect("outcome", row["effect_id"]), row["outcome"]))
    return seal.open_text(places.REASON, str(outcome.get("text") or ""))


def _filled(reference: dict[str, Any], shown: dict[str, str]) -> dict[str, Any]:
    text = reference.get("text")
    if text is None:
        text = shown.get(reference.get("effect_id", ""), "")
    return {"tool_use_id": reference["tool_use_id"], "status": reference["status"], "text": text}
