"""The effect protocol from Python: a claim, a renewal or a record is one statement and one round trip."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import asyncpg

from holdfast import ids
from holdfast.states import CallStatus, EffectState
from holdfast_ledger import parameters
from holdfast_ledger.database import Database
from holdfast_ledger.errors import LedgerUnavailable
from holdfast_ledger.records import (
    Busy,
    Claim,
    ClaimResult,
    Doubt,
    Granted,
    Incoming,
    Record,
    Recorded,
    Refused,
    Resolution,
    Settled,
    TurnRecord,
)

_NO_OUTCOME: Mapping[str, Any] = {
    "status": CallStatus.CANCELLED.value,
    "code": "cancelled",
    "text": "This call was cancelled before it ran.",
}


RECLAIM_PAUSES_S = (0.1, 0.4, 1.0)
"""When a claim whose answer was lost is asked again: it may have been granted, and nobody else would know."""


async def claim(database: Database, wanted: Claim) -> ClaimResult:
    _check_order(wanted.parent, wanted.incoming)
    asked = _claim_parameters(wanted)
    for pause in RECLAIM_PAUSES_S:
        try:
            return _claimed(await database.one("claim_effect", *asked))
        except LedgerUnavailable:
            await asyncio.sleep(pause)
    return _claimed(await database.one("claim_effect", *asked))


def _claimed(row: asyncpg.Record) -> ClaimResult:
    match row["verdict"]:
        case "granted":
            return Granted(
                token=row["token"],
                attempt=row["attempt"],
                args=row["args"],
                probe=bool(row["probe"]),
                keys_refused=row["keys_refused"],
            )
        case "settled":
            return Settled(state=EffectState(row["state"]), outcome=_outcome(row["outcome"], row["committed"]))
        case "busy":
            return Busy(retry_after=row["retry_after"])
        case _:
            return Refused(code=row["code"], reason=row["reason"], retry_after=row["retry_after"])


def _claim_parameters(wanted: Claim) -> tuple[Any, ...]:
    authorization = wanted.authorization or {}
    columns = {
        "session_id": wanted.session_id,
        "effect_id": wanted.effect_id,
        "kind": wanted.kind,
        "turn": wanted.turn,
        "call": wanted.call,
        "tool": wanted.tool,
        "tier": wanted.tier,
        "service": wanted.service,
        "recovery": wanted.recovery,
        "key_ttl": wanted.key_ttl,
        "fingerprint": wanted.fingerprint,
        "saga_id": wanted.saga_id,
        "saga_epoch": wanted.saga_epoch,
        "request": wanted.request,
        "attempts": wanted.attempts,
        "lease": wanted.lease,
        "worker": wanted.worker,
        "nonce": wanted.nonce,
        "parent": wanted.parent,
        "first_head": ids.first_head(wanted.session_id),
        "decision": wanted.decision,
        "use_within": wanted.use_within,
        "approver": authorization.get("approver"),
        "repeat_within": wanted.repeat_within,
        "repeat_allowed": wanted.repeat_allowed,
    }
    intent: dict[str, Any] = {"worker": wanted.worker}
    if wanted.kind == "model":
        intent["parent"] = wanted.parent
        intent["incoming"] = [_incoming_columns(message) for message in wanted.incoming]
    else:
        intent["authorization"] = dict(authorization)
    return (
        parameters.clear_json(columns),
        ids.canonical(intent),
        ids.canonical(_unknown(wanted.tool)),
        ids.canonical(_exhausted(wanted)),
        parameters.clear_json([_incoming_columns(message) for message in wanted.incoming]),
        [message.body for message in wanted.incoming],
        *parameters.facts(wanted.outbox),
    )


def _incoming_columns(message: Incoming) -> dict[str, Any]:
    return {
        "head": message.head,
        "parent": message.parent,
        "role": message.role,
        "digest": message.digest,
        "turn": message.turn,
        "message_id": message.message_id,
    }


def _check_order(parent: str | None, incoming: tuple[Incoming, ...]) -> None:
    """Raises `ValueError`: a transcript with a gap could never be read again."""
    for message in incoming:
        if message.parent != parent:
            raise ValueError(f"the message {message.head} follows {message.parent}, not {parent}")
        parent = message.head


def _unknown(tool: str | None) -> dict[str, str]:
    return {
        "status": CallStatus.UNKNOWN.value,
        "code": "unknown",
        "text": f"The outcome of {tool or 'this effect'} is unknown: an attempt was lost, and it may have been "
        "carried out, and a person is checking. Do not call it again for the same purpose.",
    }


def _exhausted(wanted: Claim) -> dict[str, str]:
    times = "once" if wanted.attempts == 1 else f"{wanted.attempts} times"
    if wanted.kind == "model":
        return {"failed": f"The model was tried {times} without an answer."}
    return {
        "status": CallStatus.ERROR.value,
        "code": "transient",
        "text": f"{wanted.tool} was tried {times} without an answer, and is given up.",
    }


async def renew(database: Database, effect_id: str, token: int, lease: timedelta) -> bool:
    row = await database.one("renew_effect", effect_id, token, lease)
    return bool(row[0])


async def refuse_key(database: Database, effect_id: str, token: int, lease: timedelta) -> int | None:
    row = await database.one("refuse_key", effect_id, token, lease)
    refused: int | None = row[0]
    return refused


def record_parameters(record: Record) -> tuple[Any, ...]:
    """Parameters of the statement `record_effect`."""
    undo = record.undo
    columns = {
        "session_id": record.session_id,
        "effect_id": record.effect_id,
        "token": record.token,
        "state": record.state,
        "doubt": record.doubt,
        "final": record.final,
        "dispatched": record.dispatched,
        "latency": record.latency,
        "undo_tool": undo.tool if undo else None,
        "undo_version": undo.version if undo else None,
        "usd": record.usd,
        **_for_breaker(record),
    }
    body: dict[str, Any] = {"outcome": dict(record.outcome), "evidence": dict(record.evidence)}
    if undo is not None:
        body["undo"] = {"tool": undo.tool, "version": undo.version, "args": ids.digest(undo.args)}
    return (
        parameters.clear_json(columns),
        ids.canonical(dict(record.outcome)),
        ids.canonical(_unknown(None)),
        record.result,
        record.shown,
        undo.args if undo else None,
        ids.canonical(dict(record.evidence)) if record.evidence else None,
        ids.canonical(body),
    )


def _for_breaker(record: Record) -> dict[str, Any]:
    if record.breaker is None:
        return {}
    return {
        "failed": record.failed,
        "breaker_failures": record.breaker.failures,
        "breaker_within": record.breaker.within,
        "breaker_open_for": record.breaker.open_for,
    }


async def record(database: Database, done: Record) -> Recorded:
    return recorded(await database.one("record_effect", *record_parameters(done)))


async def resolve(database: Database, found: Resolution) -> Recorded:
    columns = {
        "id": found.id,
        "session_id": found.session_id,
        "effect_id": found.effect_id,
        "state": found.state,
        "by": found.by,
        "undo_tool": found.undo.tool if found.undo else None,
        "undo_version": found.undo.version if found.undo else None,
        "key_refused": found.key_refused,
    }
    body = {
        "by": found.by,
        "reason": found.reason,
        "state": found.state,
        "outcome": dict(found.outcome),
        "evidence": dict(found.evidence),
    }
    row = await database.one(
        "resolve_effect",
        parameters.clear_json(columns),
        ids.canonical(dict(found.outcome)),
        found.result,
        found.shown,
        found.undo.args if found.undo else None,
        ids.canonical(body),
    )
    return recorded(row)


async def doubt(database: Database, effect_id: str) -> Doubt | None:
    row = await database.row("doubt", effect_id)
    if row is None:
        return None
    return Doubt(
        state=EffectState(row["state"]),
        outcome=_outcome(row["outcome"], False),
        args=row["args"],
        keys_refused=row["keys_refused"],
    )


async def note_probe(database: Database, effect_id: str, said: str) -> EffectState:
    row = await database.one("note_probe", effect_id, parameters.clear(said))
    return EffectState(row[0])


async def record_turn(database: Database, turn: TurnRecord) -> Recorded:
    usage = turn.usage
    columns = {
        "session_id": turn.session_id,
        "effect_id": turn.effect_id,
        "token": turn.token,
        "turn": turn.turn,
        "head": turn.head,
        "next_head": turn.next_head,
        "digest": turn.digest,
        "stop_reason": turn.stop_reason,
        "model_asked": turn.model_asked,
        "model_answered": turn.model_answered,
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cache_read_tokens": usage.cache_read,
        "cache_write_tokens": usage.cache_write,
        "usd": turn.usd,
        "latency": turn.latency,
        "request_digest": turn.request_digest,
        "saga_id": turn.saga_id,
        "saga_epoch": turn.saga_epoch,
        "commit_saga": turn.commit_saga,
    }
    calls = [
        {
            "effect_id": call.effect_id,
            "call": call.call,
            "tool_use_id": call.tool_use_id,
            "tool": call.tool,
            "tool_version": call.tool_version,
            "tier": call.tier,
            "recovery": call.recovery,
            "digest": call.digest,
            "preview": call.preview,
            "semantic_key": call.semantic_key,
        }
        for call in turn.calls
    ]
    row = await database.one(
        "record_turn",
        parameters.clear_json(columns),
        ids.canonical(dict(turn.outcome)),
        turn.body,
        ids.canonical(_turn_body(turn)),
        parameters.clear_json(calls),
        [call.args for call in turn.calls],
        [call.salt for call in turn.calls],
    )
    return recorded(row)


def _turn_body(turn: TurnRecord) -> dict[str, Any]:
    """What the ledger keeps of a turn for ever: digests of all that was said, and what it cost."""
    return {
        "head": turn.head,
        "next_head": turn.next_head,
        "message": turn.digest,
        "request": turn.request_digest,
        "stop_reason": turn.stop_reason,
        "model_asked": turn.model_asked,
        "model_answered": turn.model_answered,
        "usage": {
            "input": turn.usage.input,
            "output": turn.usage.output,
            "cache_read": turn.usage.cache_read,
            "cache_write": turn.usage.cache_write,
        },
        "usd": None if turn.usd is None else str(turn.usd),
        "calls": [
            {"call": call.call, "tool": call.tool, "version": call.tool_version, "args": call.digest}
            for call in turn.calls
        ],
        "salts": {call.call: call.salt.hex() for call in turn.calls},
    }


def recorded(row: asyncpg.Record) -> Recorded:
    state = EffectState(row["state"])
    settled = state not in (EffectState.OPEN, EffectState.CLAIMED)
    return Recorded(
        accepted=row["accepted"],
        committed=bool(row["committed"]),
        outcome=_outcome(row["outcome"], row["committed"]) if settled else None,
        state=state,
    )


def _outcome(body: bytes | None, committed: bool | None) -> Mapping[str, Any]:
    outcome: dict[str, Any] = dict(_NO_OUTCOME) if body is None else json.loads(body)
    return {**outcome, "committed": True} if committed else outcome
