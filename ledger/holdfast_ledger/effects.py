"""The effect protocol from Python: a claim, a renewal or a record is one statement and one round trip."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import asyncpg

from holdfast import ids
from holdfast.budget import Lost
from holdfast.states import CallStatus, EffectState
from holdfast_ledger import parameters, places
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
from holdfast_ledger.sealing import Seal
from holdfast_ledger.vault import Vault

_NO_OUTCOME: Mapping[str, Any] = {
    "status": CallStatus.CANCELLED.value,
    "code": "cancelled",
    "text": "This call was cancelled before it ran.",
}


RECLAIM_PAUSES_S = (0.1, 0.4, 1.0)
"""When a claim whose answer was lost is asked again: it may have been granted, and nobody else would know."""


async def claim(database: Database, vault: Vault, wanted: Claim) -> ClaimResult:
    _check_order(wanted.parent, wanted.incoming)
    seal = await vault.of(wanted.session_id)
    statement, asked = _claim_statement(wanted, seal)
    for pause in RECLAIM_PAUSES_S:
        try:
            return _claimed(await database.one(statement, *asked), wanted.effect_id, seal)
        except LedgerUnavailable:
            await asyncio.sleep(pause)
    return _claimed(await database.one(statement, *asked), wanted.effect_id, seal)


def _claim_statement(wanted: Claim, seal: Seal) -> tuple[str, tuple[Any, ...]]:
    asked = _claim_parameters(wanted, seal)
    *bodies, _, _, told, digests, facts = asked
    if wanted.settle_tries is not None:
        return "claim_to_settle", (*bodies, wanted.settle_tries)
    if (row := wanted.planned) is not None:
        args = seal.seal(places.effect("args", wanted.effect_id), row.args)
        return "claim_planned", (*bodies, told, digests, facts, args, row.salt)
    return "claim_effect", asked


def _claimed(row: asyncpg.Record, effect_id: str, seal: Seal) -> ClaimResult:
    match row["verdict"]:
        case "granted":
            return Granted(
                token=row["token"],
                attempt=row["attempt"],
                args=_args(row["args"], effect_id, seal),
                probe=bool(row["probe"]),
                keys_refused=row["keys_refused"],
            )
        case "settled":
            outcome = _outcome(row["outcome"], row["committed"], effect_id, seal)
            return Settled(state=EffectState(row["state"]), outcome=outcome)
        case "busy":
            return Busy(retry_after=row["retry_after"])
        case _:
            return Refused(code=row["code"], reason=row["reason"], retry_after=row["retry_after"])


def _claim_parameters(wanted: Claim, seal: Seal) -> tuple[Any, ...]:
    outcome_at = places.effect("outcome", wanted.effect_id)
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
        **_planned_columns(wanted, seal),
    }
    intent: dict[str, Any] = {"worker": wanted.worker}
    if wanted.kind == "model":
        intent["parent"] = wanted.parent
        intent["incoming"] = [_incoming_columns(message) for message in wanted.incoming]
    else:
        intent["authorization"] = dict(authorization)
    if wanted.planned is not None and wanted.planned.undo_of is not None:
        intent |= {"kind": wanted.kind, "undo_of": wanted.planned.undo_of}
    return (
        parameters.clear_json(columns),
        seal.seal(places.effect("authorization_body", wanted.effect_id), ids.canonical(intent)),
        seal.seal(outcome_at, ids.canonical(_unknown(wanted.tool))),
        seal.seal(outcome_at, ids.canonical(_exhausted(wanted))),
        parameters.clear_json([_incoming_columns(message) for message in wanted.incoming]),
        [_sealed(seal, places.content(message.digest), message.body) for message in wanted.incoming],
        *parameters.facts(wanted.outbox, seal),
    )


def _planned_columns(wanted: Claim, seal: Seal) -> dict[str, Any]:
    row = wanted.planned
    if row is None:
        return {}
    return {
        "tool_version": row.tool_version,
        "preview": seal.seal_text(places.preview(wanted.call, wanted.fingerprint), row.preview),
        "pivot": row.pivot,
        "semantic_key": row.semantic_key,
        "undo_of": row.undo_of,
        "unknown": row.unknown,
    }


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


async def lost_attempts(database: Database, effect_id: str) -> int:
    return int((await database.one("lost_attempts", effect_id))[0])


async def renew(database: Database, effect_id: str, token: int, lease: timedelta) -> bool:
    row = await database.one("renew_effect", effect_id, token, lease)
    return bool(row[0])


async def refuse_key(database: Database, effect_id: str, token: int, lease: timedelta) -> int | None:
    row = await database.one("refuse_key", effect_id, token, lease)
    refused: int | None = row[0]
    return refused


def record_parameters(record: Record, seal: Seal) -> tuple[Any, ...]:
    """Parameters of the statement `record_effect`."""
    effect_id, token = record.effect_id, record.token
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
        **_assumed(record.lost),
        **_for_breaker(record),
    }
    body: dict[str, Any] = {"outcome": dict(record.outcome), "evidence": dict(record.evidence)}
    if undo is not None:
        body["undo"] = {"tool": undo.tool, "version": undo.version, "args": ids.digest(undo.args)}
    return (
        parameters.clear_json(columns),
        *_outcome_columns(record, seal),
        _sealed(
            seal,
            places.attempt("evidence", effect_id, token),
            ids.canonical(dict(record.evidence)) if record.evidence else None,
        ),
        seal.seal(places.attempt("report", effect_id, token), ids.canonical(body)),
    )


def _outcome_columns(said: Record | Resolution, seal: Seal) -> tuple[bytes | None, ...]:
    """Outcome, the outcome where doubt remains (of a record), result, what is shown of it, the undo's arguments."""
    effect_id = said.effect_id
    outcome_at = places.effect("outcome", effect_id)
    doubtful = (seal.seal(outcome_at, ids.canonical(_unknown(None))),) if isinstance(said, Record) else ()
    return (
        seal.seal(outcome_at, ids.canonical(dict(said.outcome))),
        *doubtful,
        _sealed(seal, places.effect("result", effect_id), said.result),
        _sealed(seal, places.effect("shown", effect_id), said.shown),
        _sealed(seal, places.effect("undo_args", effect_id), said.undo.args if said.undo else None),
    )


def _sealed(seal: Seal, place: str, body: bytes | None) -> bytes | None:
    return None if body is None else seal.seal(place, body)


def _assumed(lost: Lost | None) -> dict[str, Any]:
    lost = lost or Lost()
    return {"assumed_tokens": lost.tokens, "assumed_usd": lost.usd}


def _for_breaker(record: Record) -> dict[str, Any]:
    if record.breaker is None:
        return {}
    return {
        "failed": record.failed,
        "service": record.service,
        "breaker_failures": record.breaker.failures,
        "breaker_within": record.breaker.within,
        "breaker_open_for": record.breaker.open_for,
    }


async def record(database: Database, vault: Vault, done: Record) -> Recorded:
    seal = await vault.of(done.session_id)
    return recorded(await database.one("record_effect", *record_parameters(done, seal)), done.effect_id, seal)


async def resolve(database: Database, vault: Vault, found: Resolution) -> Recorded:
    seal = await vault.of(found.session_id)
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
        *_outcome_columns(found, seal),
        seal.seal(places.entry(f"@effect/{found.effect_id}/resolved/{found.id}"), ids.canonical(body)),
    )
    return recorded(row, found.effect_id, seal)


async def doubt(database: Database, vault: Vault, effect_id: str) -> Doubt | None:
    row = await database.row("doubt", effect_id)
    if row is None:
        return None
    seal = await vault.of(row["session_id"])
    return Doubt(
        state=EffectState(row["state"]),
        outcome=_outcome(row["outcome"], False, effect_id, seal),
        args=_args(row["args"], effect_id, seal),
        keys_refused=row["keys_refused"],
    )


async def note_probe(database: Database, vault: Vault, session_id: str, effect_id: str, said: str) -> EffectState:
    seal = await vault.of(session_id)
    sealed = seal.seal_text(places.effect("probe_said", effect_id), parameters.clear(said))
    row = await database.one("note_probe", effect_id, sealed)
    return EffectState(row[0])


async def record_turn(database: Database, vault: Vault, turn: TurnRecord) -> Recorded:
    seal = await vault.of(turn.session_id)
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
        "lost_attempts": turn.lost.attempts if turn.lost else 0,
        **_assumed(turn.lost),
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
            "preview": seal.seal_text(places.preview(call.call, call.digest), call.preview),
            "semantic_key": call.semantic_key,
        }
        for call in turn.calls
    ]
    row = await database.one(
        "record_turn",
        parameters.clear_json(columns),
        seal.seal(places.effect("outcome", turn.effect_id), ids.canonical(dict(turn.outcome))),
        seal.seal(places.content(turn.digest), turn.body),
        seal.seal(places.attempt("report", turn.effect_id, turn.token), ids.canonical(_turn_body(turn))),
        parameters.clear_json(calls),
        [seal.seal(places.effect("args", call.effect_id), call.args) for call in turn.calls],
        [seal.seal(places.effect("args_salt", call.effect_id), call.salt) for call in turn.calls],
    )
    return recorded(row, turn.effect_id, seal)


def _turn_body(turn: TurnRecord) -> dict[str, Any]:
    """What the ledger keeps of a turn for ever: digests of all that was said, and what it cost."""
    return {
        "head": turn.head,
        "next_head": turn.next_head,
        "message": turn.digest,
        "request": turn.request_digest,
        **({"final": turn.final} if turn.final is not None else {}),
        **({"summary": True} if turn.summary else {}),
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
        **({"lost": turn.lost.model_dump(mode="json")} if turn.lost else {}),
        "calls": [
            {"call": call.call, "tool": call.tool, "version": call.tool_version, "args": call.digest}
            for call in turn.calls
        ],
        "salts": {call.call: call.salt.hex() for call in turn.calls},
    }


def recorded(row: asyncpg.Record, effect_id: str, seal: Seal) -> Recorded:
    state = EffectState(row["state"])
    settled = state not in (EffectState.OPEN, EffectState.CLAIMED)
    return Recorded(
        accepted=row["accepted"],
        committed=bool(row["committed"]),
        outcome=_outcome(row["outcome"], row["committed"], effect_id, seal) if settled else None,
        state=state,
    )


def _args(body: bytes | None, effect_id: str, seal: Seal) -> bytes | None:
    return None if body is None else seal.open(places.effect("args", effect_id), body)


def _outcome(body: bytes | None, committed: bool | None, effect_id: str, seal: Seal) -> Mapping[str, Any]:
    outcome: dict[str, Any] = dict(_NO_OUTCOME)
    if body is not None:
        outcome = json.loads(places.opened(seal, places.effect("outcome", effect_id), body))
        if isinstance(outcome.get("text"), str):
            outcome["text"] = seal.open_text(places.REASON, outcome["text"])
    return {**outcome, "committed": True} if committed else outcome
