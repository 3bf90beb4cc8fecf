"""The `find_orphans` activity: which unfinished sagas nobody works on any more, as Temporal itself says.

Read-only: what is done about an orphan is the sweep's to start. A Temporal that the ledger does not belong to is
not asked: it was emptied, or is another one, and knows none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from temporalio import activity
from temporalio.client import Client

from holdfast.saga_contracts import FindOrphans, Orphan, OrphanPage, SagaInput, unwind_id
from holdfast.states import SagaState
from holdfast_activities.fates import DEAD, Fate, fates_of
from holdfast_ledger.saga_records import UnfinishedSaga
from holdfast_ledger.sagas import Sagas


class Orphans:
    """Finds orphans over the worker's ledger and its client."""

    def __init__(self, sagas: Sagas, client: Client, stranger: Callable[[], Awaitable[str]]) -> None:
        """Args:
        stranger: why this Temporal cannot know the ledger's sessions; empty where it is the ledger's own.
        """
        self._sagas = sagas
        self._client = client
        self._stranger = stranger

    @activity.defn
    async def find_orphans(self, request: FindOrphans) -> OrphanPage:
        """See `holdfast.saga_contracts.find_orphans`."""
        if stranger := await self._stranger():
            return OrphanPage(scanned=0, alarm=stranger)
        page = await self._sagas.unfinished(after=request.after, limit=request.limit, older_than=request.older_than)
        workers = {one for row in page.sagas for one in (row.owner, unwind_id(row.saga_id))}
        fates = await fates_of(self._client, workers)
        judged = [
            judge(row, request.task_queue, fates[row.owner], fates[unwind_id(row.saga_id)]) for row in page.sagas
        ]
        found = [await self._with_input(orphan) for orphan in judged if orphan]
        return OrphanPage(scanned=len(page.sagas), orphans=tuple(found), next=page.next)

    async def _with_input(self, orphan: Orphan) -> Orphan:
        """What it is started again with; its row says who asked for it."""
        if orphan.what != "restart":
            return orphan
        started = await self._sagas.input(orphan.saga_id)
        return orphan.model_copy(update={"restart": SagaInput.model_validate(started)})


def judge(row: UnfinishedSaga, task_queue: str, owner: Fate, unwinder: Fate) -> Orphan | None:
    """What is to be done about a saga, from what Temporal says of its forward side and its unwinder.

    A forward side that Temporal does not know may live in another namespace, or in a Temporal that lost its data:
    nothing is undone. One that completed without an end for its saga is a bug, and a person's.
    """
    if unwinder.lives or (owner.status is not None and owner.task_queue != task_queue):
        return None
    if owner.status is None:
        return _orphan(row, "hold", f"Temporal knows no workflow {row.owner}; nothing is undone on that alone")
    if row.state is SagaState.UNWINDING:
        return _orphan(row, "unwind", "its unwind has no workflow any more")
    if owner.lives or (row.state is SagaState.FORWARD_PENDING and owner.status not in DEAD):
        return None  # at work; or it ended so, and a person must help it on
    if owner.status not in DEAD:
        return _orphan(row, "hold", f"its workflow {row.owner} completed and left it {row.state}")
    reason = f"its workflow {row.owner} {DEAD[owner.status]}"
    forward = row.past_pivot or row.state in (SagaState.COMMITTING, SagaState.FORWARD_PENDING)
    return _orphan(row, "restart" if row.code_defined and forward else "unwind", reason)


def _orphan(row: UnfinishedSaga, what: str, reason: str) -> Orphan:
    return Orphan.model_validate(
        {"saga_id": row.saga_id, "session_id": row.session_id, "what": what, "state": row.state, "reason": reason}
    )
