"""Starting the one `Unwind` of a saga as a child that outlives its parent, and waiting for its result."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import ChildWorkflowError, WorkflowAlreadyStartedError

from holdfast import saga_contracts
from holdfast.saga_contracts import UnwindInput, UnwindResult
from holdfast.states import SagaState

AGAIN_AFTER = timedelta(seconds=1)
AGAIN_AT_MOST = timedelta(minutes=1)
"""Pauses while somebody else's `Unwind` of the same saga runs."""


async def unwound(unwind: UnwindInput) -> UnwindResult:
    """The result of the saga's `Unwind`; where somebody else's runs, of the look after it.

    UNWINDING: it ended without one, e.g. terminated, and is started again by the sweeper.
    """
    pause = AGAIN_AFTER
    while True:
        try:
            result: UnwindResult = await workflow.execute_child_workflow(
                saga_contracts.UNWIND_WORKFLOW,
                unwind,
                id=saga_contracts.unwind_id(unwind.saga_id),
                result_type=UnwindResult,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                static_summary=f"unwind {unwind.saga_id}: {unwind.reason}"[:200],
            )
        except WorkflowAlreadyStartedError:
            await workflow.sleep(pause, summary="another unwind of this saga runs")
            pause = min(2 * pause, AGAIN_AT_MOST)
        except ChildWorkflowError as error:
            return UnwindResult(outcome=SagaState.UNWINDING, reason=f"the unwind ended early: {error.cause}")
        else:
            return result
