"""Sagas in the ledger: opened and moved by their forward side, unwound by whoever holds them, resolved by people.

Each method is one function of Postgres, in one round trip, or one read. Whoever moves a saga locks it first, so no
two of them ever see it differently.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from holdfast import ids
from holdfast.states import EffectState, RecoveryClass, SagaState, Tier
from holdfast_ledger import parameters, places
from holdfast_ledger.database import Database
from holdfast_ledger.errors import EffectMissing, SagaMissing
from holdfast_ledger.saga_records import (
    Moved,
    MoveSaga,
    SagaOpening,
    SagaResolution,
    SagaRow,
    SagaStep,
    StepArguments,
    UnfinishedSaga,
    UnfinishedSagas,
)
from holdfast_ledger.sealing import CLEAR, Seal
from holdfast_ledger.vault import Vault, proposed


def undo_id(effect_id: str) -> str:
    """Id of the one effect that undoes another, and the Idempotency-Key it is sent with."""
    return f"{effect_id}:undo"


class Sagas:
    """Every method may raise `LedgerUnavailable`."""

    def __init__(
        self, database: Database, vault: Vault, *, changed: Callable[[str], None] = lambda session_id: None
    ) -> None:
        """`changed` hears the session whose chain was written to."""
        self._database = database
        self._vault = vault
        self._changed = changed

    # The forward side of a code-defined saga.

    async def open(self, opening: SagaOpening) -> Moved:
        """Write its row and first entry, or take up what an earlier run left. Not moved: `reused`, `changed`."""
        proposal = await self._vault.propose(opening.saga_id)
        columns = {
            "session_id": opening.saga_id,
            "agent": f"@saga/{opening.name}",
            "run_id": opening.run_id,
            "name": opening.name,
            "version": opening.version,
            "source": opening.source,
            "catalogue_digest": opening.catalogue_digest,
            "requested_by": opening.requested_by,
            "on_behalf_of": opening.on_behalf_of,
            "tenant": opening.tenant,
            "roles": list(opening.roles),
            "labels": dict(opening.labels),
            "parent": opening.parent,
            "started_at": opening.started_at,
            "task_queue": opening.task_queue,
        }
        seal: Seal = proposal.key if proposal else CLEAR
        row = await self._database.one(
            "open_saga",
            parameters.clear_json({**columns, **proposed(proposal)}),
            opening.catalogue,
            seal.seal(places.saga("input", opening.saga_id), opening.input),
            seal.seal(places.saga("salt", opening.saga_id), opening.salt),
            ids.canonical({**columns, "started_at": opening.started_at.isoformat()}),
        )
        self._changed(opening.saga_id)
        return _moved(row)

    async def move(self, move: MoveSaga) -> Moved:
        """COMMITTING, COMMITTED, FORWARD_PENDING or HELD; returns what stands. COMMITTED in doubt is HELD.

        Raises `SessionMissing`.
        """
        seal = await self._vault.of(move.session_id)
        columns = {
            "session_id": move.session_id,
            "saga_id": move.saga_id,
            "epoch": move.epoch,
            "state": move.state,
            "reason": _sealed_reason(seal, move.reason),
        }
        result_at = places.saga("result", move.saga_id)
        row = await self._database.one(
            "move_saga",
            parameters.clear_json(columns),
            None if move.result is None else seal.seal(result_at, move.result),
            *parameters.facts(move.outbox, seal),
        )
        self._changed(move.session_id)
        return _moved(row)

    # Unwinding.

    async def begin_unwind(
        self,
        session_id: str,
        saga_id: str,
        *,
        unwinder: str,
        epoch: int | None = None,
        reason: str = "",
        by: str = "",
    ) -> Moved:
        """Fence the forward side off; with `epoch` only look. Not moved: `missing committed aborted pivot taken`.

        The newest `unwinder` to begin holds the saga.
        """
        seal = await self._vault.of(session_id)
        columns = {
            "session_id": session_id,
            "saga_id": saga_id,
            "unwinder": unwinder,
            "epoch": epoch,
            "reason": _sealed_reason(seal, reason),
            "by": by,
        }
        row = await self._database.one("begin_unwind", parameters.clear_json(columns))
        self._changed(session_id)
        return _moved(row)

    async def end_unwind(
        self, session_id: str, saga_id: str, *, epoch: int, state: SagaState, reason: str = ""
    ) -> Moved:
        """ABORTED, HELD or STUCK; returns what stands: UNWINDING while something stands that ABORTED would hide."""
        seal = await self._vault.of(session_id)
        columns = {
            "session_id": session_id,
            "saga_id": saga_id,
            "epoch": epoch,
            "state": state,
            "reason": _sealed_reason(seal, reason),
        }
        row = await self._database.one("end_unwind", parameters.clear_json(columns))
        self._changed(session_id)
        return _moved(row)

    async def hold(self, session_id: str, saga_id: str, *, expected: SagaState, reason: str) -> bool:
        """Leave it to a person; False where it is not in the state expected any more."""
        seal = await self._vault.of(session_id)
        columns = {"saga_id": saga_id, "expected": expected, "reason": _sealed_reason(seal, reason)}
        row = await self._database.one("hold_saga", parameters.clear_json(columns))
        self._changed(session_id)
        return bool(row[0])

    async def resolve(self, resolution: SagaResolution) -> Moved:
        """What a person decided; it was not done where `code` is set, and `said` is why.

        Raises `SessionMissing`.
        """
        seal = await self._vault.of(resolution.session_id)
        said = f"{resolution.what} by {resolution.by}: {resolution.reason}"
        columns: dict[str, Any] = {
            "id": resolution.id,
            "session_id": resolution.session_id,
            "saga_id": resolution.saga_id,
            "what": resolution.what,
            "by": resolution.by,
            "why": _sealed_reason(seal, said),
            "effect_id": resolution.effect_id,
            "waive": list(resolution.waive),
        }
        body: dict[str, Any] = {"by": resolution.by, "reason": resolution.reason, "what": resolution.what}
        if resolution.waive:
            body["waived"] = list(resolution.waive)
        undo_args = None
        if resolution.effect_id and resolution.undo_args is not None:
            step = await self.arguments(resolution.effect_id)
            digest = ids.salted_digest(step.salt, resolution.undo_args)
            columns |= {"undo_tool": resolution.undo_tool, "undo_version": resolution.undo_version}
            body |= {"undo": {"tool": resolution.undo_tool, "version": resolution.undo_version, "args": digest}}
            undo_args = seal.seal(places.effect("undo_args", resolution.effect_id), resolution.undo_args)
        told_as = f"@saga/{resolution.saga_id}/resolved/{resolution.id}"
        row = await self._database.one(
            "resolve_saga",
            parameters.clear_json(columns),
            undo_args,
            seal.seal(places.entry(told_as), ids.canonical(body)),
        )
        self._changed(resolution.session_id)
        return _moved(row)

    # Reads.

    async def row(self, saga_id: str) -> SagaRow:
        """Raises `SagaMissing`."""
        row = await self._database.row("saga_run", saga_id)
        if row is None:
            raise SagaMissing(f"There is no saga `{saga_id}`.")
        seal = await self._vault.of(row["session_id"])
        return SagaRow(
            saga_id=row["id"],
            session_id=row["session_id"],
            state=SagaState(row["state"]),
            epoch=row["epoch"],
            reason=seal.open_text(places.REASON, row["reason"] or ""),
            goal=row["goal"],
            past_pivot=row["past_pivot"],
            catalogue_digest=row["catalogue_digest"],
            name=row["name"],
            version=row["version"],
            owner=row["owner"],
            owner_run=row["owner_run"],
            parent=row["parent"],
            salt=None if row["salt"] is None else seal.open(places.saga("salt", saga_id), row["salt"]),
            input=_opened(seal, places.saga("input", saga_id), row["input"]),
            result=_opened(seal, places.saga("result", saga_id), row["result"]),
        )

    async def input(self, saga_id: str) -> dict[str, Any] | None:
        """What a code-defined saga was started with. Raises `SagaMissing`."""
        started = (await self.row(saga_id)).input
        return None if started is None else dict(started)

    async def steps(self, session_id: str, saga_id: str) -> tuple[SagaStep, ...]:
        """Steps above tier read that stood, stand or may stand: what may still land first, then newest first."""
        seal = await self._vault.of(session_id)
        rows = await self._database.rows("saga_steps", saga_id)
        return tuple(_step(row, seal) for row in rows)

    async def arguments(self, effect_id: str) -> StepArguments:
        """What a step was sent with, and what its undo takes. Raises `EffectMissing`."""
        row = await self._database.row("step_arguments", effect_id)
        if row is None:
            raise EffectMissing(f"There is no effect `{effect_id}`.")
        seal = await self._vault.of(row["session_id"])
        undo_args = row["undo_args"]
        return StepArguments(
            state=EffectState(row["state"]),
            turn=row["turn"],
            call=row["call"],
            tool=row["tool"],
            tier=Tier(row["tier"]),
            fingerprint=row["fingerprint"],
            args=seal.open(places.effect("args", effect_id), row["args"]),
            salt=row["args_salt"] or b"",
            keys_refused=row["keys_refused"],
            undo_args=None if undo_args is None else seal.open(places.effect("undo_args", effect_id), undo_args),
        )

    async def result(self, effect_id: str) -> Any:
        """A landed step's whole result as JSON values; None where there is none."""
        row = await self._database.row("effect_result", effect_id)
        if row is None:
            return None
        seal = await self._vault.of(row["session_id"])
        return _opened(seal, places.effect("result", effect_id), row["result"])

    async def unfinished(self, *, after: str | None, limit: int, older_than: timedelta) -> UnfinishedSagas:
        """Sagas that neither ended nor wait for a person, oldest first, after a cursor."""
        since, _, last = (after or "").partition(" ")
        rows = await self._database.rows(
            "unfinished_sagas", older_than, datetime.fromisoformat(since) if since else None, last, limit
        )
        found = tuple(
            UnfinishedSaga(
                saga_id=row["saga_id"],
                session_id=row["session_id"],
                state=SagaState(row["state"]),
                owner=row["owner"],
                owner_run=row["owner_run"],
                code_defined=row["code_defined"],
                past_pivot=row["past_pivot"],
            )
            for row in rows
        )
        full = len(rows) == limit
        return UnfinishedSagas(
            sagas=found,
            next=f"{rows[-1]['opened_at'].isoformat()} {rows[-1]['saga_id']}" if full else None,
        )


def _moved(row: asyncpg.Record) -> Moved:
    return Moved(
        state=SagaState(row["state"]) if row["state"] else None,
        epoch=row["epoch"] or 0,
        code=row["code"],
        said=row["said"] or "",
    )


def _sealed_reason(seal: Seal, reason: str) -> str:
    return seal.seal_text(places.REASON, reason) if reason else ""


def _opened(seal: Seal, place: str, body: bytes | None) -> Any:
    return None if body is None else json.loads(seal.open(place, body))


def _step(row: asyncpg.Record, seal: Seal) -> SagaStep:
    said = ""
    if row["undo_outcome"] is not None:
        body = places.opened(seal, places.effect("outcome", row["undo_id"]), row["undo_outcome"])
        said = str(json.loads(body).get("text") or "")
    return SagaStep(
        effect_id=row["effect_id"],
        call=row["call"],
        tool=row["tool"],
        tool_version=row["tool_version"],
        tier=Tier(row["tier"]),
        recovery=RecoveryClass(row["recovery"]),
        state=EffectState(row["state"]),
        doubt=row["doubt"],
        lease_left=row["lease_left"],
        order=row["settled_order"],
        undo_tool=row["undo_tool"],
        undo_version=row["undo_version"],
        has_undo_args=row["undo_args"],
        settle_tried=row["settle_tried"],
        waived=row["waived"],
        pivot=row["pivot"],
        key_lives=row["key_lives"],
        settled_at=row["settled_at"],
        undo_id=row["undo_id"],
        undo_by=row["undo_by"],
        undo_state=EffectState(row["undo_state"]) if row["undo_state"] else None,
        undo_said=said,
        undo_attempts=row["undo_attempts"] or 0,
        undone_at=row["undone_at"],
    )
