"""The `settle_effect` activity: find out what became of a step in doubt, for the unwind that must know.

Its service is asked where it has a probe, or sent the same key again where it dedupes and what lands can be undone.
Where neither can tell, the step is UNKNOWN and a person's.
"""

from __future__ import annotations

from collections.abc import Mapping

from temporalio import activity

from holdfast.catalogue import ToolCard
from holdfast.contracts import Authorization, CallOutcome
from holdfast.saga_contracts import SettleEffect
from holdfast.states import CallStatus, EffectState, RecoveryClass
from holdfast_activities.calls.surroundings import Surroundings
from holdfast_activities.calls.undertaking import Undertaking, looked_up, undertaken
from holdfast_activities.compensate import GATES
from holdfast_activities.execute_call import UNSETTLED_DELAY
from holdfast_activities.halt import Halt, wound_up
from holdfast_activities.lease import beating
from holdfast_activities.retries import later
from holdfast_ledger.errors import EffectMissing
from holdfast_ledger.records import Claim, Refused, Settled
from holdfast_ledger.saga_records import StepArguments
from holdfast_sagas.unwinding import SETTLE_TRIES

BECAME: Mapping[CallStatus, EffectState] = {
    CallStatus.OK: EffectState.DONE,
    CallStatus.ERROR: EffectState.FAILED,
    CallStatus.DENIED: EffectState.CANCELLED,
    CallStatus.CANCELLED: EffectState.CANCELLED,
    CallStatus.UNKNOWN: EffectState.UNKNOWN,
}


class Settlements:
    """Settles steps in doubt, over what calls work with."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    @activity.defn
    async def settle_effect(self, request: SettleEffect) -> EffectState:
        """See `holdfast.saga_contracts.settle_effect`. Each attempt is one try; after the last it is UNKNOWN.

        Raises:
            ApplicationError: retryable; nobody could tell yet.
            asyncio.CancelledError: it was stopped before it asked anything.
        """
        return await wound_up(lambda halt: self._attempt(request, halt))

    async def _attempt(self, request: SettleEffect, halt: Halt) -> EffectState | None:
        async with beating():
            ledger = self._around.ledger
            found = await looked_up(ledger, request.catalogue, request.tool)
            try:
                step = await ledger.sagas.arguments(request.effect_id)
            except EffectMissing:
                return EffectState.UNKNOWN
            if isinstance(found, str):
                return step.state
            if halt.reason is not None:
                return None
            catalogue, card = found
            work = Undertaking(claim=self._claim(request, card, step), catalogue=catalogue, card=card, trace={})
            outcome = await undertaken(self._around, work, halt)
            match outcome:
                case Refused() if outcome.code in GATES:
                    raise later(outcome.reason, f"Refused.{outcome.code}", outcome.retry_after or UNSETTLED_DELAY)
                case Refused():  # it is not this unwinder's to settle any more
                    return (await ledger.sagas.arguments(request.effect_id)).state
                case Settled():
                    return outcome.state
                case CallOutcome():
                    return BECAME[outcome.status]
                case None:
                    return None

    def _claim(self, request: SettleEffect, card: ToolCard, step: StepArguments) -> Claim:
        return Claim(
            effect_id=request.effect_id,
            session_id=request.session_id,
            kind="call",
            turn=step.turn,
            call=step.call,
            tool=card.name,
            tier=step.tier,
            service=card.service,
            recovery=card.recovery,
            key_ttl=card.key_ttl,
            fingerprint=step.fingerprint,
            saga_id=request.saga.id,
            saga_epoch=request.saga.epoch,
            request=request.saga.request,
            attempts=0,
            lease=self._around.lease,
            worker=self._around.worker,
            authorization=Authorization(verdict="allow", rule="settle").model_dump(mode="json"),
            settle_tries=SETTLE_TRIES if can_tell(card) else 0,
        )


def can_tell(card: ToolCard) -> bool:
    """Whether the step's service can still say what became of it without leaving what nobody can undo."""
    if card.recovery is RecoveryClass.IDEMPOTENT:
        return card.undo is not None
    return card.recovery is RecoveryClass.PROBE
