"""Outcomes and arguments of effects as they are stored: sealed with their session's key, read back with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import asyncpg

from holdfast.states import CallStatus, EffectState
from holdfast_ledger import places
from holdfast_ledger.records import Recorded
from holdfast_ledger.sealing import Seal

_NO_OUTCOME: Mapping[str, Any] = {
    "status": CallStatus.CANCELLED.value,
    "code": "cancelled",
    "text": "This call was cancelled before it ran.",
}


def recorded(row: asyncpg.Record, effect_id: str, seal: Seal) -> Recorded:
    state = EffectState(row["state"])
    settled = state not in (EffectState.OPEN, EffectState.CLAIMED)
    return Recorded(
        accepted=row["accepted"],
        committed=bool(row["committed"]),
        outcome=outcome_of(row["outcome"], row["committed"], effect_id, seal) if settled else None,
        state=state,
    )


def args_of(body: bytes | None, effect_id: str, seal: Seal) -> bytes | None:
    return None if body is None else seal.open(places.effect("args", effect_id), body)


def outcome_of(body: bytes | None, committed: bool | None, effect_id: str, seal: Seal) -> Mapping[str, Any]:
    outcome: dict[str, Any] = dict(_NO_OUTCOME)
    if body is not None:
        outcome = json.loads(places.opened(seal, places.effect("outcome", effect_id), body))
        if isinstance(outcome.get("text"), str):
            outcome["text"] = seal.open_text(places.REASON, outcome["text"])
    return {**outcome, "committed": True} if committed else outcome


def unknown(tool: str | None) -> dict[str, str]:
    return {
        "status": CallStatus.UNKNOWN.value,
        "code": "unknown",
        "text": f"The outcome of {tool or 'this effect'} is unknown: an attempt was lost, and it may have been "
        "carried out, and a person is checking. Do not call it again for the same purpose.",
    }


def sealed_or_none(seal: Seal, place: str, body: bytes | None) -> bytes | None:
    return None if body is None else seal.seal(place, body)
