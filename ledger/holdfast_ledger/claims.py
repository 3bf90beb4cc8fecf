"""CLAIM from Python: one attempt asks for an effect, in one statement and one round trip."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from holdfast import ids
from holdfast.states import CallStatus, EffectState
from holdfast_ledger import openly, parameters, places
from holdfast_ledger.database import Database
from holdfast_ledger.errors import LedgerUnavailable
from holdfast_ledger.outcomes import args_of, outcome_of, sealed_or_none, unknown
from holdfast_ledger.records import Busy, Claim, ClaimResult, Granted, Incoming, Refused, Settled
from holdfast_ledger.sealing import Seal
from holdfast_ledger.vault import Vault

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
        salt = seal.seal(places.effect("args_salt", wanted.effect_id), row.salt)
        return "claim_planned", (*bodies, told, digests, facts, args, salt)
    return "claim_effect", asked


def _claimed(row: asyncpg.Record, effect_id: str, seal: Seal) -> ClaimResult:
    match row["verdict"]:
        case "granted":
            return Granted(
                token=row["token"],
                attempt=row["attempt"],
                args=args_of(row["args"], effect_id, seal),
                probe=bool(row["probe"]),
                keys_refused=row["keys_refused"],
            )
        case "settled":
            outcome = outcome_of(row["outcome"], row["committed"], effect_id, seal)
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
        seal.seal(
            places.effect("authorization_body", wanted.effect_id),
            ids.canonical(intent),
            public=openly.of_authorization(seal, authorization),
        ),
        *(
            seal.seal(outcome_at, ids.canonical(given_up), public=openly.of_given_up(seal, given_up))
            for given_up in (unknown(wanted.tool), _exhausted(wanted))
        ),
        parameters.clear_json(
            [{**_incoming_columns(message), "effects": list(message.effects)} for message in wanted.incoming]
        ),
        [sealed_or_none(seal, places.content(message.digest), message.body) for message in wanted.incoming],
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


def _exhausted(wanted: Claim) -> dict[str, str]:
    times = "once" if wanted.attempts == 1 else f"{wanted.attempts} times"
    if wanted.kind == "model":
        return {"failed": f"The model was tried {times} without an answer."}
    return {
        "status": CallStatus.ERROR.value,
        "code": "transient",
        "text": f"{wanted.tool} was tried {times} without an answer, and is given up.",
    }
