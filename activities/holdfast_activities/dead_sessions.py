"""The `end_dead_sessions` activity: sessions whose workflow died without a word get their end in the ledger.

What they had under way is the orphans' business. Here lists, the inbox of approvals and the retention stop taking
them for alive. Of what Temporal does not know nothing is said: an expired retention is no death.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus

from holdfast.saga_contracts import DeadSessions, EndDeadSessions
from holdfast.states import SessionStatus
from holdfast_activities.fates import DEAD, Fate, fates_of
from holdfast_ledger.errors import LedgerError, LedgerUnavailable
from holdfast_ledger.records import Closing
from holdfast_ledger.store import Ledger

STOPPED = (WorkflowExecutionStatus.TERMINATED, WorkflowExecutionStatus.CANCELED)
"""By somebody; the others failed by themselves."""


class Endings:
    """Ends dead sessions over the worker's ledger and its client."""

    def __init__(self, ledger: Ledger, client: Client, stranger: Callable[[], Awaitable[str]]) -> None:
        """Args:
        stranger: why this Temporal cannot know the ledger's sessions; empty where it is the ledger's own.
        """
        self._ledger = ledger
        self._client = client
        self._stranger = stranger

    @activity.defn
    async def end_dead_sessions(self, request: EndDeadSessions) -> DeadSessions:
        """See `holdfast.saga_contracts.end_dead_sessions`."""
        if await self._stranger():
            return DeadSessions()
        page = await self._ledger.living_sessions(request.task_queue, after=request.after, limit=request.limit)
        fates = await fates_of(self._client, page.sessions)
        dead = [each for each in page.sessions if fates[each].status in DEAD]
        # Asked again behind Temporal's answer: a session that ends as it should is closed here before it is there.
        unended = await self._ledger.unended(dead) if dead else ()
        ended = [each for each in unended if await self._end(each, fates[each])]
        return DeadSessions(ended=tuple(ended), next=page.next)

    async def _end(self, session_id: str, fate: Fate) -> bool:
        assert fate.status is not None
        assert fate.closed_at is not None
        closing = Closing(
            session_id=session_id,
            status=SessionStatus.ABORTED if fate.status in STOPPED else SessionStatus.FAILED,
            reason=f"its workflow {DEAD[fate.status]}",
            at=fate.closed_at,
        )
        try:
            await self._ledger.close_session(closing)
        except LedgerUnavailable:
            raise
        except LedgerError as error:  # of this session alone, say its key: the others are no worse for it
            activity.logger.warning(
                "a dead session could not be ended", extra={"session_id": session_id, "error": type(error).__name__}
            )
            return False
        activity.logger.info("a dead session was ended", extra={"session_id": session_id, "said": closing.reason})
        return True
