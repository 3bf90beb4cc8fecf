"""The `compensate` activity: undo one step, as an effect of its own.

Its key is the step's id with `:undo` behind it, whoever attempts it. It asks nobody and counts against no budget; a
tool that is stopped, or left alone by its breaker, makes it wait. An undo is never undone.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from temporalio import activity

from holdfast import ids
from holdfast.catalogue import Catalogue, ToolCard
from holdfast.contracts import Authorization, CallOutcome
from holdfast.errors import DeclarationError
from holdfast.saga_contracts import UNDO_ATTEMPTS, Compensate, StepOutcome
from holdfast.states import CallStatus
from holdfast_activities.calls.surroundings import Surroundings
from holdfast_activities.calls.undertaking import Undertaking, looked_up, undertaken
from holdfast_activities.calls.undo import unknown_undo_args
from holdfast_activities.execute_call import CLOSED_CODES, HELD_CODES, UNSETTLED_DELAY, settled
from holdfast_activities.halt import Halt, wound_up
from holdfast_activities.lease import beating
from holdfast_activities.retries import later
from holdfast_activities.tools.arguments import Misfit, check_call
from holdfast_ledger.errors import EffectMissing
from holdfast_ledger.records import Claim, Refused, Settled
from holdfast_ledger.saga_records import PlannedRow, StepArguments
from holdfast_ledger.sagas import undo_id

LONGEST_PAUSE = timedelta(minutes=5)
"""Between two attempts: an undo may outwait its service's bad hour."""
GATES = frozenset({"disabled", "breaker"})


class Compensations:
    """Runs undos, over what calls work with."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    @activity.defn
    async def compensate(self, request: Compensate) -> StepOutcome:
        """See `holdfast.saga_contracts.compensate`. CANCELLED: it may not be undone as things stand now.

        Raises:
            ApplicationError: retryable; a later attempt settles it.
            asyncio.CancelledError: it was stopped before it had an effect, and released.
        """
        return await wound_up(lambda halt: self._attempt(request, halt))

    async def _attempt(self, request: Compensate, halt: Halt) -> StepOutcome | None:
        async with beating():
            found = await looked_up(self._around.ledger, request.catalogue, request.tool, undo=True)
            if isinstance(found, str):
                return StepOutcome(status=CallStatus.CANCELLED, held=found)
            try:
                step = await self._around.ledger.sagas.arguments(request.undo_of)
            except EffectMissing as error:
                return StepOutcome(status=CallStatus.CANCELLED, held=str(error))
            if halt.reason is not None:
                return None
            catalogue, card = found
            args = self._arguments(request, catalogue, card, step)
            if isinstance(args, Misfit):
                return StepOutcome(status=CallStatus.ERROR, code="invalid", text=args.text)
            outcome = await undertaken(self._around, self._undertaking(request, catalogue, card, step, args), halt)
            return None if outcome is None else _ended(outcome)

    def _arguments(
        self, request: Compensate, catalogue: Catalogue, card: ToolCard, step: StepArguments
    ) -> bytes | Misfit:
        """The undo's arguments, or why a person must give them."""
        try:
            given = (
                self._unknown(catalogue, card, step) if request.unknown else json.loads(step.undo_args or b"null")
            )
            checked = check_call(self._around.book.tool(card), card, given)
        except DeclarationError as error:  # a deploy may be under way
            raise later(
                f"this worker cannot run `{card.name}`: {error}", "Undo.undeclared", UNSETTLED_DELAY
            ) from error
        except Exception as error:  # the author's `undo_args`
            return Misfit(f"the arguments of `{card.name}` could not be made: {type(error).__name__}")
        return checked if isinstance(checked, Misfit) else checked.args

    def _unknown(self, catalogue: Catalogue, card: ToolCard, step: StepArguments) -> dict[str, Any]:
        forward = catalogue.card(step.tool)
        if forward is None:
            raise DeclarationError(f"the catalogue has no tool `{step.tool}`")
        return unknown_undo_args(self._around.book.tool(forward), card, json.loads(step.args))

    def _undertaking(
        self, request: Compensate, catalogue: Catalogue, card: ToolCard, step: StepArguments, args: bytes
    ) -> Undertaking:
        authorization = Authorization(verdict="allow", rule="unwind", approver=request.by or None)
        claim = Claim(
            effect_id=undo_id(request.undo_of),
            session_id=request.session_id,
            kind="undo",
            turn=step.turn,
            call=step.call,
            tool=card.name,
            tier=card.tier,
            service=card.service,
            recovery=card.recovery,
            key_ttl=card.key_ttl,
            fingerprint=ids.salted_digest(step.salt, args),
            saga_id=request.saga.id,
            saga_epoch=request.saga.epoch,
            request=request.saga.request,
            attempts=UNDO_ATTEMPTS,
            lease=self._around.lease,
            worker=self._around.worker,
            authorization=authorization.model_dump(mode="json"),
            planned=PlannedRow(
                tool_version=card.version,
                args=args,
                salt=step.salt,
                undo_of=request.undo_of,
                unknown=request.unknown,
            ),
        )
        return Undertaking(
            claim=claim,
            catalogue=catalogue,
            card=card,
            trace=request.trace,
            undo_key=ids.idempotency_key(request.undo_of, step.keys_refused),
            longest_pause=LONGEST_PAUSE,
        )


def _ended(outcome: CallOutcome | Settled | Refused) -> StepOutcome:
    if isinstance(outcome, Refused):
        if outcome.code in GATES:
            raise later(outcome.reason, f"Refused.{outcome.code}", outcome.retry_after or UNSETTLED_DELAY)
        held = outcome.reason if outcome.code in HELD_CODES - CLOSED_CODES else None
        return StepOutcome(status=CallStatus.CANCELLED, code=outcome.code, text=outcome.reason, held=held)
    ended = settled(outcome) if isinstance(outcome, Settled) else outcome
    return StepOutcome(status=ended.status, code=ended.code, text=ended.text, usd=ended.usd)
