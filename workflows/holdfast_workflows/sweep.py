"""`Sweep`: finds what died without a word: sagas, which it has unwound, and sessions, which get their end.

Must hold: nothing is undone on a guess. What Temporal does not know is held for a person, and too many orphans at
once stop the sweep.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

from holdfast import saga_contracts as contracts
from holdfast.saga_contracts import (
    EndDeadSessions,
    FindOrphans,
    HoldSaga,
    Orphan,
    SweepInput,
    SweepResult,
    UnwindInput,
)

_ONCE_A_MINUTE = timedelta(minutes=1)
_RETRIES = RetryPolicy(maximum_interval=timedelta(seconds=15), maximum_attempts=5)  # the next sweep comes anyway
BY = "sweep"
"""Who unwound it, in the ledger."""


@workflow.defn(name=contracts.SWEEP_WORKFLOW)
class Sweep:
    @workflow.run
    async def run(self, sweep: SweepInput) -> SweepResult:
        scanned, orphans, alarm = await self._orphans(sweep)
        if alarm:
            workflow.set_current_details(alarm)
            return SweepResult(scanned=scanned, alarm=alarm)
        lost = [orphan for orphan in orphans if orphan.what != "hold"]
        allowed = max(sweep.at_most, int(scanned * sweep.at_most_share))
        if len(lost) > allowed and not sweep.force:
            alarm = (
                f"{len(lost)} of {scanned} open sagas lost their workflow, and {allowed} may in one sweep: "
                "nothing was undone. If that is true, `holdfast saga sweep --force` goes on"
            )
            workflow.set_current_details(alarm)
            workflow.logger.error("sweep stopped: too many orphans", extra={"orphans": len(lost), "open": scanned})
            return SweepResult(scanned=scanned, alarm=alarm)
        started = [orphan.saga_id for orphan in lost if await self._take_over(orphan)]
        held = [orphan.saga_id for orphan in orphans if orphan.what == "hold" and await self._hold(orphan)]
        ended, after = await self._end_dead_sessions(sweep)
        return SweepResult(
            scanned=scanned, started=tuple(started), held=tuple(held), ended=tuple(ended), next_session=after
        )

    async def _orphans(self, sweep: SweepInput) -> tuple[int, list[Orphan], str]:
        queue = sweep.task_queue or workflow.info().task_queue
        scanned, orphans, after = 0, list[Orphan](), None
        while True:
            page = await workflow.execute_activity(
                contracts.find_orphans,
                FindOrphans(task_queue=queue, after=after, older_than=sweep.older_than),
                start_to_close_timeout=_ONCE_A_MINUTE,
                retry_policy=_RETRIES,
                summary=f"unfinished sagas after {after or 'the oldest'}"[:200],
            )
            scanned += page.scanned
            orphans += page.orphans
            after = page.next
            if after is None or page.alarm:
                return scanned, orphans, page.alarm

    async def _end_dead_sessions(self, sweep: SweepInput) -> tuple[list[str], str | None]:
        """A page of the sessions a sweep, so that any number of them costs the same; by hand all of them."""
        last = None if sweep.every_session else workflow.get_last_completion_result(SweepResult)
        ended, after = list[str](), last.next_session if last else None
        while True:
            page = await workflow.execute_activity(
                contracts.end_dead_sessions,
                EndDeadSessions(
                    task_queue=sweep.task_queue or workflow.info().task_queue,
                    after=after,
                    limit=sweep.sessions_at_once,
                ),
                start_to_close_timeout=_ONCE_A_MINUTE,
                retry_policy=_RETRIES,
                summary=f"living sessions after {after or 'the oldest'}"[:200],
            )
            ended += page.ended
            after = page.next
            if after is None or not sweep.every_session:
                return ended, after

    async def _take_over(self, orphan: Orphan) -> bool:
        """Start who goes on with it, beyond this sweep's own end. False: somebody has already."""
        try:
            if orphan.what == "restart":
                await workflow.start_child_workflow(
                    contracts.SAGA_WORKFLOW,
                    orphan.restart,
                    id=orphan.saga_id,
                    parent_close_policy=ParentClosePolicy.ABANDON,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    static_summary=f"goes on with {orphan.saga_id}: {orphan.reason}"[:200],
                )
            else:
                await workflow.start_child_workflow(
                    contracts.UNWIND_WORKFLOW,
                    UnwindInput(session_id=orphan.session_id, saga_id=orphan.saga_id, reason=orphan.reason, by=BY),
                    id=contracts.unwind_id(orphan.saga_id),
                    parent_close_policy=ParentClosePolicy.ABANDON,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    static_summary=f"unwind {orphan.saga_id}: {orphan.reason}"[:200],
                )
        except WorkflowAlreadyStartedError:
            return False
        return True

    async def _hold(self, orphan: Orphan) -> bool:
        return await workflow.execute_activity(
            contracts.hold_saga,
            HoldSaga(
                saga_id=orphan.saga_id,
                session_id=orphan.session_id,
                expected=orphan.state,
                reason=orphan.reason,
            ),
            start_to_close_timeout=_ONCE_A_MINUTE,
            retry_policy=_RETRIES,
            summary=f"hold {orphan.saga_id}: {orphan.reason}"[:200],
        )
