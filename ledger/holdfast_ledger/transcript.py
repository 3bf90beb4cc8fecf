"""The messages of a session along one branch, with the results of its calls filled in."""

from __future__ import annotations

import json
from typing import Any

from holdfast import ids
from holdfast.errors import HeadMissing
from holdfast_ledger.database import Database
from holdfast_ledger.records import StoredMessage


async def transcript(database: Database, session_id: str, head: str) -> list[StoredMessage]:
    """All messages up to `head`, oldest first. Raises `HeadMissing` where the branch is not complete."""
    first = ids.first_head(session_id)
    if head == first:
        return []
    rows = await database.rows("transcript", session_id, head)
    if not rows or rows[0]["parent"] != first:
        raise HeadMissing(f"The transcript of session `{session_id}` has no unbroken line to head `{head}`.")
    contents = [json.loads(row["body"]) for row in rows]
    references = [
        reference
        for row, content in zip(rows, contents, strict=True)
        if row["role"] == "results"
        for reference in content
    ]
    shown = await _shown(database, references)
    return [
        StoredMessage(
            head=row["head"],
            role=row["role"],
            turn=row["turn"],
            content=[_filled(each, shown) for each in content] if row["role"] == "results" else content,
        )
        for row, content in zip(rows, contents, strict=True)
    ]


async def _shown(database: Database, references: list[dict[str, Any]]) -> dict[str, str]:
    """What the model sees of each referenced effect."""
    wanted = [each["effect_id"] for each in references if each.get("text") is None and each.get("effect_id")]
    if not wanted:
        return {}
    rows = await database.rows("shown_results", wanted)
    return {row["effect_id"]: _text(row["shown"], row["outcome"]) for row in rows}


def _text(shown: bytes | None, outcome: bytes | None) -> str:
    if shown is not None:
        return shown.decode("utf-8", "surrogatepass")
    return str(json.loads(outcome).get("text") or "") if outcome is not None else ""


def _filled(reference: dict[str, Any], shown: dict[str, str]) -> dict[str, Any]:
    text = reference.get("text")
    if text is None:
        text = shown.get(reference.get("effect_id", ""), "")
    return {"tool_use_id": reference["tool_use_id"], "status": reference["status"], "text": text}
