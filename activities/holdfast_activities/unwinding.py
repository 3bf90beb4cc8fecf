"""The first and the last transaction of an unwind, and the plan between them: what stands, and how it is undone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import activity

from holdfast.catalogue import Catalogue, ToolCard
from holdfast.guards import LEASE
from holdfast.queues import Queues
from holdfast.saga_contracts import BeginUnwind, EndUnwind, StepPlan, UnwindPlan
from holdfast.states import EffectState, RecoveryClass, SagaState
from holdfast_activities.settle_effect import can_tell
from holdfast_ledger.errors import LedgerError, LedgerUnavailable
from holdfast_ledger.saga_records import SagaStep
from holdfast_ledger.store import Ledger


class Unwindings:
    """Begins and ends unwinds over the worker's ledger."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        lease: timedelta = LEASE,
        search_attributes: bool = False,
        queues: Queues = Queues(),  # noqa: B008 - frozen
    ) -> None:
        """Args:
        lease: `[effects] lease`, for the unwind to notice a dead worker by.
        search_attributes: whether this Temporal knows Holdfast's.
        queues: `[queues]`, whoever opened the saga: also one opened before they were named.
        """
        self._ledger = ledger
        self._lease = lease
        self._search_attributes = search_attributes
        self._queues = queues

    @activity.defn
    async def begin_unwind(self, request: BeginUnwind) -> UnwindPlan:
        """See `holdfast.saga_contracts.begin_unwind`."""
        sagas = self._ledger.sagas
        began = await sagas.begin_unwind(
            request.session_id,
            request.saga_id,
            unwinder=request.unwinder,
            epoch=request.epoch,
            reason=request.reason,
            by=request.by,
        )
        state = began.state or SagaState.HELD
        if began.code is not None:
            return UnwindPlan.model_validate(
                {"epoch": began.epoch, "state": state, "refused": began.said, "refused_code": began.code}
            )
        digest = (await sagas.row(request.saga_id)).catalogue_digest or ""
        try:
            catalogue = await self._ledger.catalogue(digest)
        except LedgerUnavailable:
            raise
        except LedgerError as error:
            return UnwindPlan(epoch=began.epoch, state=state, refused=str(error), refused_code="missing")
        steps = await sagas.steps(request.session_id, request.saga_id)
        return UnwindPlan(
            epoch=began.epoch,
            state=state,
            catalogue=digest,
            steps=tuple(planned(step, catalogue) for step in steps),
            lease=self._lease,
            search_attributes=self._search_attributes,
            queues=self._queues,
        )

    @activity.defn
    async def end_unwind(self, request: EndUnwind) -> SagaState:
        """See `holdfast.saga_contracts.end_unwind`."""
        ended = await self._ledger.sagas.end_unwind(
            request.session_id, request.saga_id, epoch=request.epoch, state=request.state, reason=request.reason
        )
        return ended.state or SagaState.HELD


def planned(step: SagaStep, catalogue: Catalogue) -> StepPlan:
    """The step as the planner sees it: its row, and what the catalogue says of its tool."""
    card = catalogue.card(step.tool)
    undo = catalogue.compensation(step.undo_tool or (card.undo if card else None))
    by_hand = step.waived == "undone_by_hand"
    return StepPlan(
        effect_id=step.effect_id,
        call=step.call,
        tool=step.tool,
        tier=step.tier,
        recovery=step.recovery,
        state=step.state,
        doubt=step.doubt,
        lease_left=step.lease_left,
        order=step.order,
        undo_missing=undo is not None and step.state is EffectState.DONE and not step.has_undo_args,
        can_settle=step.state is not EffectState.UNKNOWN or _can_settle(step, card),
        settle_tried=step.settle_tried,
        undo_state=EffectState.DONE if by_hand else step.undo_state,
        undo_said=step.undo_said,
        waived=step.waived is not None and not by_hand,
        **_undoing(card, undo, catalogue),
    )


def _undoing(card: ToolCard | None, undo: ToolCard | None, catalogue: Catalogue) -> dict[str, Any]:
    """How the tool is undone."""
    if card is None:
        return {}
    unknown = catalogue.compensation(card.undo_if_unknown)
    known = {
        "undo": undo.name if undo else None,
        "undo_version": undo.version if undo else None,
        "undo_if_unknown": unknown.name if unknown else None,
        "never_undone": card.never_undone,
        "undo_timeout": max(each.timeout for each in (card, undo, unknown) if each),
    }
    return {name: value for name, value in known.items() if value is not None}


def _can_settle(step: SagaStep, card: ToolCard | None) -> bool:
    """Of one that was given up as UNKNOWN: asking again may still tell."""
    if card is None or not can_tell(card):
        return False
    return step.recovery is RecoveryClass.PROBE or step.key_lives
