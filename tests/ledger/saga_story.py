"""A saga of the ledger driven by hand: its steps in any state, its unwinders, and what people say."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import asyncpg

from holdfast import ids
from holdfast.states import EffectState, RecoveryClass, SagaState, Tier
from holdfast_ledger.records import Claim, ClaimResult, Granted, PlannedCall, Record, Recorded, Resolution, Undo
from holdfast_ledger.saga_records import (
    Moved,
    MoveSaga,
    PlannedRow,
    Resolving,
    SagaOpening,
    SagaResolution,
    SagaStep,
)
from holdfast_ledger.sagas import undo_id
from tests.ledger.conftest import CATALOGUE, LEASE, START, Conversation

UNDO = Undo(tool="release", version="1", args=b'{"hold_id":"H-1"}')
SALT = b"salt"


@dataclass
class Story:
    """The saga of a conversation's first request. `sagas` moves it, `conversation` runs its calls."""

    conversation: Conversation

    @property
    def saga_id(self) -> str:
        return self.conversation.saga_id

    @property
    def session_id(self) -> str:
        return self.conversation.session_id

    async def land(self, *, undo: Undo | None = UNDO, **changes: Any) -> PlannedCall:
        """One step that is DONE."""
        call = await self.conversation.plan(**changes)
        granted = await self.conversation.grant(call)
        await self.conversation.record(call, granted.token, EffectState.DONE, undo=undo)
        return call

    async def lose(self, recovery: RecoveryClass = RecoveryClass.OPERATOR) -> PlannedCall:
        """One step whose attempt is lost: CLAIMED, and its lease over."""
        call = await self.conversation.plan(recovery)
        await self.conversation.grant(call)
        await self.conversation.expire_lease(call)
        return call

    async def plan_late(self) -> PlannedCall:
        """One step of a turn that was under way when the unwind, with the epoch 2, began."""
        talk = self.conversation
        claim = talk.model_claim(talk.user_message())
        granted = await talk.ledger.claim(claim)
        assert isinstance(granted, Granted)
        call = talk.planned_call()
        await self.begin()
        record = talk.turn_record(claim, granted.token, call)
        await talk.ledger.record_turn(record)
        talk.turn, talk.head = claim.turn, record.next_head
        return call

    async def begin(self, run: str = "run-1", **changes: Any) -> Moved:
        sagas = self.conversation.ledger.sagas
        return await sagas.begin_unwind(
            self.session_id, self.saga_id, unwinder=run, **{"reason": "a mistake", "by": "ana", **changes}
        )

    async def steps(self) -> dict[str, SagaStep]:
        found = await self.conversation.ledger.sagas.steps(self.session_id, self.saga_id)
        return {step.effect_id: step for step in found}

    async def end(self, state: SagaState, epoch: int = 2, reason: str = "") -> SagaState | None:
        sagas = self.conversation.ledger.sagas
        return (
            await sagas.end_unwind(self.session_id, self.saga_id, epoch=epoch, state=state, reason=reason)
        ).state

    def undo_claim(self, call: PlannedCall, epoch: int = 2, **changes: Any) -> Claim:
        args = changes.pop("args", UNDO.args)
        claim = Claim(
            effect_id=undo_id(call.effect_id),
            session_id=self.session_id,
            kind="undo",
            turn=1,
            call=call.call,
            tool="release",
            tier=Tier.IRREVERSIBLE,
            recovery=RecoveryClass.IDEMPOTENT,
            fingerprint=ids.salted_digest(SALT, args),
            saga_id=self.saga_id,
            saga_epoch=epoch,
            request=1,
            attempts=3,
            lease=LEASE,
            worker="worker-1",
            authorization={"verdict": "allow", "rule": "unwind"},
            planned=PlannedRow(
                tool_version="1",
                args=args,
                salt=SALT,
                undo_of=call.effect_id,
                unknown=changes.pop("unknown", False),
            ),
        )
        return replace(claim, **changes)

    async def claim_undo(self, call: PlannedCall, epoch: int = 2, **changes: Any) -> ClaimResult:
        return await self.conversation.ledger.claim(self.undo_claim(call, epoch, **changes))

    async def undo(self, call: PlannedCall, state: EffectState = EffectState.DONE, epoch: int = 2) -> Recorded:
        """One attempt to undo a step, ended so."""
        granted = await self.claim_undo(call, epoch)
        assert isinstance(granted, Granted), granted
        return await self.record_undo(call, granted.token, state)

    async def record_undo(self, call: PlannedCall, token: int, state: EffectState) -> Recorded:
        return await self.conversation.ledger.record(
            Record(
                effect_id=undo_id(call.effect_id),
                session_id=self.session_id,
                token=token,
                state=state,
                outcome={"status": "ok" if state is EffectState.DONE else "error", "text": "the desk is closed"},
                usd=Decimal("0.05"),
            )
        )

    async def settle(self, call: PlannedCall, epoch: int = 2, tries: int = 4) -> ClaimResult:
        claim = self.conversation.call_claim(call, saga_epoch=epoch, attempts=0, settle_tries=tries)
        return await self.conversation.ledger.claim(claim)

    async def find_out(self, call: PlannedCall, state: EffectState, **changes: Any) -> Recorded:
        """A person found out about an UNKNOWN step."""
        found = self._found(call, state)
        return await self.conversation.ledger.resolve(replace(found, **changes))

    def _found(self, call: PlannedCall, state: EffectState) -> Resolution:
        return Resolution(
            id=secrets.token_hex(4),
            effect_id=call.effect_id,
            session_id=self.session_id,
            state=state,
            by="bo",
            reason="asked the desk",
            outcome={"status": "ok", "text": "bo checked"},
            undo=UNDO if state is EffectState.DONE else None,
        )

    async def resolve(self, what: Resolving, call: PlannedCall | None = None, **changes: Any) -> Moved:
        resolution = SagaResolution(
            id=secrets.token_hex(4),
            session_id=self.session_id,
            saga_id=self.saga_id,
            what=what,
            by="bo",
            reason="it is right",
            effect_id=call.effect_id if call else None,
        )
        return await self.conversation.ledger.sagas.resolve(replace(resolution, **changes))

    async def row(self) -> asyncpg.Record:
        row = await self.conversation.owner.fetchrow("SELECT * FROM holdfast.saga WHERE id = $1", self.saga_id)
        assert row is not None
        return row

    async def undo_row(self, call: PlannedCall) -> asyncpg.Record | None:
        return await self.conversation.owner.fetchrow(
            "SELECT * FROM holdfast.effect WHERE undo_of = $1", call.effect_id
        )


def opening(saga_id: str = "rebook-1", **changes: Any) -> SagaOpening:
    """A saga that code defines."""
    made = SagaOpening(
        saga_id=saga_id,
        run_id="run-1",
        name="travel.rebook",
        version="1",
        source="digest-1",
        catalogue_digest=ids.digest(CATALOGUE),
        catalogue=CATALOGUE,
        input=ids.canonical({"name": "travel.rebook", "args": {"booking": "TRV-1"}}),
        salt=SALT,
        requested_by="ana",
        on_behalf_of=None,
        tenant=None,
        roles=(),
        labels={},
        parent=None,
        started_at=START,
    )
    return replace(made, **changes)


def step_claim(step: str, saga_id: str = "rebook-1", **changes: Any) -> Claim:
    """The claim that makes a step's row and takes it."""
    args = ids.canonical({"step": step})
    pivot = changes.pop("pivot", False)
    claim = Claim(
        effect_id=ids.effect_id(saga_id, ids.step_path(step), ""),
        session_id=saga_id,
        kind="call",
        turn=0,
        call=step,
        tool="charge",
        tier=Tier.IRREVERSIBLE,
        recovery=RecoveryClass.OPERATOR,
        fingerprint=ids.salted_digest(SALT, args),
        saga_id=saga_id,
        saga_epoch=1,
        request=0,
        attempts=3,
        lease=LEASE,
        worker="worker-1",
        authorization={"verdict": "allow", "rule": "saga"},
        planned=PlannedRow(tool_version="1", args=args, salt=SALT, preview="step", pivot=pivot),
    )
    return replace(claim, **changes)


def step_record(claim: Claim, token: int, state: EffectState = EffectState.DONE) -> Record:
    return Record(
        effect_id=claim.effect_id,
        session_id=claim.session_id,
        token=token,
        state=state,
        outcome={"status": "ok" if state is EffectState.DONE else "error"},
        result=b"{}",
        undo=UNDO if state is EffectState.DONE else None,
    )


def moving(state: SagaState, saga_id: str = "rebook-1", **changes: Any) -> MoveSaga:
    return replace(MoveSaga(session_id=saga_id, saga_id=saga_id, epoch=1, state=state), **changes)
