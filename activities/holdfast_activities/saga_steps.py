"""The `execute_step` activity: one step of a code-defined saga, through the effect protocol.

A step is named by its saga and its name alone, so whoever asks again gets its outcome: a retried activity, a reset
workflow, a later run of the same saga. What a claim refuses is told and not settled: the saga may go on later.
"""

from __future__ import annotations

from typing import Any

from temporalio import activity

from holdfast import ids
from holdfast.catalogue import Catalogue, ToolCard
from holdfast.contracts import CallOutcome
from holdfast.errors import DeclarationError
from holdfast.saga_contracts import MAX_STEP_BYTES, ExecuteStep, StepOutcome
from holdfast.states import CallStatus, EffectState
from holdfast_activities.calls.surroundings import Surroundings
from holdfast_activities.calls.undertaking import Undertaking, looked_up, undertaken
from holdfast_activities.execute_call import CLOSED_CODES, HELD_CODES, UNSETTLED_DELAY, UNWINDING, in_doubt, settled
from holdfast_activities.halt import Halt, wound_up
from holdfast_activities.lease import beating
from holdfast_activities.planned_calls import semantic_key
from holdfast_activities.retries import later
from holdfast_activities.tools.arguments import CheckedCall, Misfit, check_call
from holdfast_ledger.records import Claim, Refused, Settled
from holdfast_ledger.saga_records import PlannedRow

BREAKER = "breaker"


class StepExecutions:
    """Executes steps, over what calls work with."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    @activity.defn
    async def execute_step(self, request: ExecuteStep) -> StepOutcome:
        """See `holdfast.saga_contracts.execute_step`.

        Raises:
            ApplicationError: retryable; a later attempt settles the step.
            asyncio.CancelledError: it was stopped before it had an effect, and released.
        """
        return await wound_up(lambda halt: self._attempt(request, halt))

    async def _attempt(self, request: ExecuteStep, halt: Halt) -> StepOutcome | None:
        async with beating():
            found = await looked_up(self._around.ledger, request.catalogue, request.tool)
            if isinstance(found, str):
                return StepOutcome(status=CallStatus.CANCELLED, held=found)
            if halt.reason is not None:
                return None
            catalogue, card = found
            checked = self._checked(request, card)
            if not isinstance(checked, CheckedCall):
                return await self._unfit(request, card, checked)
            work = self._undertaking(request, catalogue, card, checked)
            outcome = await undertaken(self._around, work, halt)
            if isinstance(outcome, Settled):
                outcome = settled(outcome)
            if isinstance(outcome, Refused):
                return _refused(card, outcome)
            return None if outcome is None else await self._outcome(work.claim.effect_id, outcome)

    def _checked(self, request: ExecuteStep, card: ToolCard) -> CheckedCall | Misfit | DeclarationError:
        try:
            return check_call(self._around.book.tool(card), card, dict(request.args))
        except DeclarationError as error:
            return error

    async def _unfit(self, request: ExecuteStep, card: ToolCard, why: Misfit | DeclarationError) -> StepOutcome:
        """It cannot run here or with these arguments; one that has an outcome keeps it all the same."""
        effect_id = step_id(request)
        known = await self._around.ledger.doubt(effect_id)
        if known is not None and known.state not in (EffectState.OPEN, EffectState.CLAIMED):
            return await self._outcome(effect_id, settled(Settled(state=known.state, outcome=known.outcome)))
        if isinstance(why, DeclarationError):  # a deploy may be under way
            raise later(f"this worker cannot run `{card.name}`", "Step.undeclared", UNSETTLED_DELAY)
        await self._around.ledger.append(request.saga.id, request.outbox)
        return StepOutcome(status=CallStatus.ERROR, code="invalid", text=why.text)

    def _undertaking(
        self, request: ExecuteStep, catalogue: Catalogue, card: ToolCard, checked: CheckedCall
    ) -> Undertaking:
        salt = bytes.fromhex(request.salt)
        authorization = request.authorization
        claim = Claim(
            effect_id=step_id(request),
            session_id=request.saga.id,
            kind="call",
            turn=0,
            call=request.step,
            tool=card.name,
            tier=checked.tier,
            service=card.service,
            recovery=checked.recovery,
            key_ttl=card.key_ttl,
            fingerprint=ids.salted_digest(salt, checked.args),
            saga_id=request.saga.id,
            saga_epoch=request.saga.epoch,
            request=request.saga.request,
            attempts=request.attempts,
            lease=self._around.lease,
            worker=self._around.worker,
            authorization=authorization.model_dump(mode="json"),
            decision=authorization.decision,
            use_within=authorization.use_within,
            repeat_within=card.repeat_within,
            outbox=request.outbox,
            planned=PlannedRow(
                tool_version=card.version,
                args=checked.args,
                salt=salt,
                preview=checked.preview,
                pivot=request.pivot,
                semantic_key=semantic_key(card, catalogue, request.saga.id, checked.means),
            ),
        )
        if request.timeout is not None:
            card = card.model_copy(update={"timeout": request.timeout})
        return Undertaking(claim=claim, catalogue=catalogue, card=card, trace=request.trace)

    async def _outcome(self, effect_id: str, outcome: CallOutcome) -> StepOutcome:
        ended = StepOutcome(status=outcome.status, code=outcome.code, text=outcome.text, usd=outcome.usd)
        if outcome.status is not CallStatus.OK:
            return ended
        result = await self._around.ledger.sagas.result(effect_id)
        return ended.model_copy(update=_as_result(result))


def step_id(request: ExecuteStep) -> str:
    return ids.effect_id(request.saga.id, ids.step_path(request.step), "")


def _as_result(result: Any) -> dict[str, Any]:
    """The result as it goes into history; one too big is left in Postgres, since the step has landed."""
    size = len(ids.canonical(result))
    if size <= MAX_STEP_BYTES:
        return {"result": result}
    return {"code": "too_big", "text": f"the result has {size} bytes, and a saga passes {MAX_STEP_BYTES} on"}


def _refused(card: ToolCard, refused: Refused) -> StepOutcome:
    if refused.code in HELD_CODES:
        return StepOutcome(status=CallStatus.CANCELLED, code=refused.code, held=refused.reason)
    if refused.code in CLOSED_CODES:
        return StepOutcome(status=CallStatus.CANCELLED, code=refused.code, text=refused.reason)
    if refused.code == UNWINDING:
        return StepOutcome(status=CallStatus.UNKNOWN, code="unknown", text=in_doubt(card, refused))
    if refused.code == BREAKER:  # it passes by itself
        raise later(refused.reason, "Refused.breaker", refused.retry_after or UNSETTLED_DELAY, ordinary=True)
    return StepOutcome(status=CallStatus.DENIED, code=refused.code, text=refused.reason)
