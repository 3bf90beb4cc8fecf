"""A call that is a saga of its own: a `SagaRun` that outlives the session, and what the model hears of its end."""

from __future__ import annotations

import asyncio
import contextlib
import json

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ChildWorkflowError,
    FailureError,
    WorkflowAlreadyStartedError,
)

from holdfast import saga_contracts
from holdfast.contracts import CallOutcome
from holdfast.messages import Command
from holdfast.saga_contracts import SagaInput, SagaResult
from holdfast.states import CallStatus, SagaState
from holdfast_workflows.unwind_child import AGAIN_AFTER, AGAIN_AT_MOST

NOT_BEGUN = frozenset({"unknown_saga", "invalid", "saga_refused"})
"""Types of failures of a `SagaRun` that changed nothing."""
STANDS = "saga_stands"
"""Code of an outcome after which something of the saga stands, and is not the request's to undo."""


class RunningSaga:
    """Looks to its session like a running activity. Cancelling it asks the saga to abort, which is refused past its
    pivot: then it goes on to its end.
    """

    def __init__(self, saga_id: str, start: SagaInput, summary: str) -> None:
        self._id = saga_id
        self._start = start
        self._summary = summary
        self._stopped = False
        self._task = asyncio.create_task(self._run())

    def done(self) -> bool:
        return self._task.done()

    def result(self) -> CallOutcome:
        return self._task.result()

    def cancel(self) -> None:
        self._stopped = True

    async def _run(self) -> CallOutcome:
        stopping = asyncio.create_task(self._stop_when_asked())
        try:
            return outcome_of(await self._ended())
        except FailureError as error:
            return lost(error)
        finally:
            stopping.cancel()

    async def _ended(self) -> SagaResult:
        """The result of the saga's run; where one runs already, from before a reset, of the look after it."""
        pause = AGAIN_AFTER
        while True:
            try:
                result: SagaResult = await workflow.execute_child_workflow(
                    saga_contracts.SAGA_WORKFLOW,
                    self._start,
                    id=self._id,
                    result_type=SagaResult,
                    parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                    cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    static_summary=self._summary[:200],
                )
            except WorkflowAlreadyStartedError:
                await workflow.sleep(pause, summary="another run of this saga is under way")
                pause = min(2 * pause, AGAIN_AT_MOST)
            else:
                return result

    async def _stop_when_asked(self) -> None:
        await workflow.wait_condition(lambda: self._stopped)
        command = Command(id=f"{self._id}/abort", by="session", reason="the request was stopped")
        with contextlib.suppress(ApplicationError, ActivityError):  # it has ended already
            await workflow.get_external_workflow_handle(self._id).signal("abort", command)


def outcome_of(result: SagaResult) -> CallOutcome:
    """The call's outcome: an error wherever the saga did not do all of it."""
    if result.outcome is SagaState.COMMITTED:
        return CallOutcome(status=CallStatus.OK, code=STANDS, text=json.dumps(result.result))
    told = [f"saga {result.outcome}: {result.reason or 'no reason given'}"]
    told += [f"undone: {', '.join(result.undone)}"] if result.undone else []
    told += [f"still standing: {', '.join(result.standing)}"] if result.standing else []
    if result.outcome is SagaState.ABORTED:
        told += [] if result.standing else ["nothing stands"]
        return CallOutcome(status=CallStatus.ERROR, text="; ".join(told))
    return CallOutcome(
        status=CallStatus.ERROR,
        code=STANDS,
        text="; ".join([*told, "a person must decide about it; do not repeat it"]),
    )


def lost(error: FailureError) -> CallOutcome:
    """A run without a result: it never began, or it was ended from outside, and the sweeper looks to it."""
    cause = error.cause or error
    while isinstance(cause, ChildWorkflowError) and cause.cause:
        cause = cause.cause
    if isinstance(cause, ApplicationError) and cause.type in NOT_BEGUN:
        return CallOutcome(status=CallStatus.ERROR, text=f"nothing was done: {cause.message}"[:2000])
    return CallOutcome(
        status=CallStatus.ERROR,
        code=STANDS,
        text=f"the saga was ended from outside ({cause}); what it did is being undone. Do not repeat it"[:2000],
    )


def saga_id(session_id: str, call: str, head: str) -> str:
    """Workflow id of a call's saga; the head keeps branches of a reset apart."""
    return f"{session_id}/saga/{call}-{head[:8]}"
