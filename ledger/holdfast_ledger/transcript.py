"""The messages of a session along one branch, with the results of its calls filled in."""

from __future__ import annotations

import json
from typing import Any

import asyncpg

from holdfast import ids
from holdfast.errors import HeadMissing
from holdfast_ledger import places
from holdfast_ledger.database import Database
from holdfast_ledger.records import StoredMessage
from holdfast_ledger.sealing import Seal


async def transcript(database: Database, seal: Seal, session_id: str, head: str) -> list[StoredMessage]:
    """All messages up to `head`, oldest first. Raises `HeadMissing` where the branch is not complete."""
    first = ids.first_head(session_id)
    if head == first:
        return []
    rows = await database.rows("transcript", session_id, head)
    if not rows or rows[0]["parent"] != first:
        raise HeadMissing(f"The transcript of session `{session_id}` has no unbroken line to head `{head}`.")
    contents = [json.loads(seal.open(places.content(row["digest"]), row["body"])) for row in rows]
    references = [
        reference
        for row, content in zip(rows, contents, strict=True)
        if row["role"] == "results"
        for reference in content
    ]
    shown = await _shown(database, seal, references)
    return [
        StoredMessage(
            head=row["head"],
            role=row["role"],
            turn=row["turn"],
            content=[_filled(each, shown) for each in content] if row["role"] == "results" else content,
        )
        for row, content in zip(rows, contents, strict=True)
    ]


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
