"""Effects from Python: a renewal, a record or a resolution is one statement and one round trip."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from holdfast import ids
from holdfast.budget import Lost
from holdfast.states import EffectState
from holdfast_ledger import openly, parameters, places
from holdfast_ledger.database import Database
from holdfast_ledger.outcomes import args_of, outcome_of, recorded, sealed_or_none, unknown
from holdfast_ledger.records import Doubt, Record, Recorded, Resolution
from holdfast_ledger.sealing import Seal
from holdfast_ledger.vault import Vault


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
        **assumed(record.lost),
        **_for_breaker(record),
    }
    body: dict[str, Any] = {"outcome": dict(record.outcome), "evidence": dict(record.evidence)}
    if undo is not None:
        body["undo"] = {"tool": undo.tool, "version": undo.version, "args": ids.digest(undo.args)}
    return (
        parameters.clear_json(columns),
        *_outcome_columns(record, seal),
        sealed_or_none(
            seal,
            places.attempt("evidence", effect_id, token),
            ids.canonical(dict(record.evidence)) if record.evidence else None,
        ),
        seal.seal(
            places.attempt("report", effect_id, token),
            ids.canonical(body),
            public=openly.of_report(seal, record.outcome),
        ),
    )


def _outcome_columns(said: Record | Resolution, seal: Seal) -> tuple[bytes | None, ...]:
    """Outcome, the outcome where doubt remains (of a record), result, what is shown of it, the undo's arguments."""
    effect_id = said.effect_id
    outcome_at = places.effect("outcome", effect_id)
    doubtful = (seal.seal(outcome_at, ids.canonical(unknown(None))),) if isinstance(said, Record) else ()
    return (
        seal.seal(outcome_at, ids.canonical(dict(said.outcome))),
        *doubtful,
        sealed_or_none(seal, places.effect("result", effect_id), said.result),
        sealed_or_none(seal, places.effect("shown", effect_id), said.shown),
        sealed_or_none(seal, places.effect("undo_args", effect_id), said.undo.args if said.undo else None),
    )


def assumed(lost: Lost | None) -> dict[str, Any]:
    lost = lost or Lost()
    return {"assumed_tokens": lost.tokens, "assumed_usd": lost.usd}


def _for_breaker(record: Record) -> dict[str, Any]:
    if record.leave_alone is not None:
        return {"service": record.service, "leave_alone": record.leave_alone}
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
        outcome=outcome_of(row["outcome"], False, effect_id, seal),
        args=args_of(row["args"], effect_id, seal),
        keys_refused=row["keys_refused"],
    )


async def note_probe(database: Database, vault: Vault, session_id: str, effect_id: str, said: str) -> EffectState:
    seal = await vault.of(session_id)
    sealed = seal.seal_text(places.effect("probe_said", effect_id), parameters.clear(said))
    row = await database.one("note_probe", effect_id, sealed)
    return EffectState(row[0])
