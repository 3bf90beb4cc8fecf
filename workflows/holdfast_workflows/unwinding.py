"""Undoing what the open request did: by an `Unwind` that no end of the session stops, by a person, or not at all.

The child is abandoned and waited for: a Temporal cancel of the session reaches neither it nor the wait. While it
runs the session does not continue as new, so that the run that asked is the run that tells.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Literal

from temporalio import workflow

from holdfast import saga_contracts
from holdfast.saga_contracts import HoldSaga, UnwindInput, UnwindResult
from holdfast.states import SagaState, SessionStatus
from holdfast_workflows.display import Display
from holdfast_workflows.outbox import Outbox
from holdfast_workflows.scheduling import SHORT, options
from holdfast_workflows.state import OpenRequest, SessionState
from holdfast_workflows.unwind_child import unwound

POLICY_ASKS = "policy asks: undo or keep?"


@dataclass(frozen=True)
class SagaEnd:
    """What became of what a request did that was given up."""

    how: Literal["ended", "kept", "nothing"]
    """`ended`: its saga has an end, or waits for a person. `kept`: it is still open, and is to be committed.
    `nothing`: it is still open, and nothing in it stands."""
    told: str
    """For the model and the user, e.g. `undone: 3.1 hold_seat; nothing stands`."""
    clean: bool = False
    """Nothing of the request stands any more."""


class Unwinding:
    def __init__(self, state: SessionState, display: Display, outbox: Outbox) -> None:
        self._state = state
        self._display = display
        self._outbox = outbox

    async def undo(self, request: OpenRequest, reason: str, by: str) -> SagaEnd | None:
        """Do with the request's effects what policy says, and wait until that is done.

        Returns None where nothing was changed: nothing is started, and the ledger ends the saga by itself.
        """
        ended = await self._undo(request, reason, by) if request.may_stand else None
        if not request.apart:
            return ended
        apart = f"standing, as sagas of their own: {', '.join(request.apart)}"
        if ended is None:
            return SagaEnd("nothing", apart)
        return SagaEnd(ended.how, f"{ended.told}; {apart}")

    async def _undo(self, request: OpenRequest, reason: str, by: str) -> SagaEnd:
        assert self._state.plan is not None
        policy = self._state.plan.policy.on_abort
        if policy == "keep":
            return SagaEnd("kept", "policy keeps what was done")
        self._state.compensations = []
        ending = asyncio.create_task(self._hold(request) if policy == "ask" else self._unwind(request, reason, by))
        while not ending.done():
            with contextlib.suppress(asyncio.CancelledError):  # of the session: it ends when this has ended
                await workflow.wait_condition(ending.done)
        return ending.result()

    async def _hold(self, request: OpenRequest) -> SagaEnd:
        """Leave it to a person."""
        held = HoldSaga(
            saga_id=request.saga.id,
            session_id=workflow.info().workflow_id,
            expected=SagaState.OPEN,
            reason=POLICY_ASKS,
        )
        left = await workflow.execute_activity(
            saga_contracts.hold_saga,
            held,
            **options(f"hold-request-{request.number}", "a person decides: undo or keep", SHORT),
        )
        if not left:
            return SagaEnd("ended", "somebody else has begun to undo or to keep what was done")
        return SagaEnd(
            "ended",
            f"what was done stands until a person says whether to undo or keep it "
            f"(`holdfast saga resolve {request.saga.id}`)",
        )

    async def _unwind(self, request: OpenRequest, reason: str, by: str) -> SagaEnd:
        self._display.show(SessionStatus.RUNNING, f"unwinding: {reason}")
        telling = asyncio.create_task(self._outbox.flush())
        unwind = UnwindInput(
            session_id=workflow.info().workflow_id,
            saga_id=request.saga.id,
            reason=reason,
            by=by,
            trace=request.trace,
        )
        result = await unwound(unwind)
        await telling
        clean = result.outcome is SagaState.ABORTED and not result.standing
        return SagaEnd("ended", in_words(result), clean=clean)


def in_words(result: UnwindResult) -> str:
    """What was undone and what stands, in one sentence."""
    undone = f"undone: {', '.join(result.undone)}" if result.undone else "nothing was undone"
    if result.outcome is SagaState.ABORTED:
        left = f"still standing, as a person decided: {', '.join(result.standing)}" if result.standing else ""
        return f"{undone}; {left or 'nothing stands'}"
    if result.outcome is SagaState.UNWINDING:
        return f"it is not known yet what was undone ({result.reason}); it is tried again"
    if result.outcome is SagaState.COMMITTED:
        return f"what was done stays: {result.reason}"
    left = f"still standing: {', '.join(result.standing)}" if result.standing else "what stands is not known"
    return f"{undone}; {left}; it waits for a person: {result.reason}"
