"""Opening, closing and telling: the activities around a session's turns.

A session that cannot open is refused in words, not failed: the workflow tells the user and completes.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity

from holdfast.catalogue import Catalogue
from holdfast.contracts import CloseSession, FlushFacts, OpenSession, SessionPlan
from holdfast.errors import DeclarationError
from holdfast.guards import LEASE
from holdfast.queues import Queues
from holdfast_activities.faults import SESSION, FaultPoint, FaultPoints, no_faults
from holdfast_activities.messages_api.request import model_asked
from holdfast_activities.tools.book import ToolBook, catalogue_body
from holdfast_ledger.errors import SessionIdReused, SessionMissing
from holdfast_ledger.records import Closing, Opening
from holdfast_ledger.store import Ledger


class Openings:
    """Opens and closes sessions over the worker's ledger and tool book."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        book: ToolBook,
        lease: timedelta = LEASE,
        search_attributes: bool = False,
        queues: Queues = Queues(),  # noqa: B008 - frozen
        faults: FaultPoints = no_faults,
    ) -> None:
        """Args:
        lease: `[effects] lease`, for the session to notice a dead worker by.
        search_attributes: whether this Temporal knows Holdfast's.
        queues: `[queues]`.
        """
        self._ledger = ledger
        self._book = book
        self._lease = lease
        self._search_attributes = search_attributes
        self._queues = queues
        self._faults = faults

    @activity.defn
    async def open_session(self, request: OpenSession) -> SessionPlan:
        """See `holdfast.contracts.open_session`. `refused` lists the agents there are, or what is wrong."""
        try:
            catalogue = self._book.catalogue(request.agent, request.principal)
        except DeclarationError as error:
            await self._ledger.refuse_session(request.session_id, str(error), request.started_at)
            return SessionPlan(refused=str(error))
        digest, body = catalogue_body(catalogue)
        principal = request.principal
        opening = Opening(
            session_id=request.session_id,
            first_run_id=request.run_id,
            agent=request.agent,
            model=catalogue.agent.model,
            catalogue_digest=digest,
            catalogue=body,
            requested_by=principal.requested_by,
            on_behalf_of=principal.on_behalf_of,
            tenant=principal.tenant,
            roles=principal.roles,
            labels=principal.labels,
            started_at=request.started_at,
            task_queue=activity.info().task_queue,
            outbox=request.outbox,
        )
        try:
            standing = await self._ledger.open_session(opening)
        except SessionIdReused as error:
            return SessionPlan(refused=str(error))
        if standing != digest:  # opened before, whereof Temporal never heard, and the agent has changed since
            catalogue = await self._ledger.catalogue(standing)
        self._faults(FaultPoint.AFTER_OPENING_BEFORE_TASK_COMPLETION, SESSION)
        activity.logger.info(
            "session opened",
            extra={"session_id": request.session_id, "agent": request.agent, "tools": len(catalogue.tools)},
        )
        return self._plan(request, catalogue, standing)

    def _plan(self, request: OpenSession, catalogue: Catalogue, digest: str) -> SessionPlan:
        """What the workflow decides with."""
        memory = catalogue.agent.memory
        summarises = memory.strategy == "summarise"
        return SessionPlan(
            catalogue=digest,
            model=catalogue.agent.model,
            limits=request.limits.within(catalogue.agent.limits),
            policy=catalogue.agent.policy,
            policy_version=catalogue.policy_version,
            tools=tuple(card.plan for card in catalogue.tools),
            on_max_tokens=catalogue.agent.on_max_tokens,
            on_refusal=catalogue.agent.on_refusal,
            summarise_above=memory.above if summarises else None,
            summary_model=model_asked(catalogue.agent, summary=True) if summarises else "",
            lease=self._lease,
            search_attributes=self._search_attributes,
            queues=self._queues,
        )

    @activity.defn
    async def flush_facts(self, request: FlushFacts) -> str | None:
        """See `holdfast.contracts.flush_facts`."""
        try:
            await self._ledger.append(request.session_id, request.outbox)
        except SessionMissing:
            return "Postgres is older than this session: the session is not here"
        self._faults(FaultPoint.AFTER_FLUSH_BEFORE_TASK_COMPLETION, SESSION)
        return None

    @activity.defn
    async def close_session(self, request: CloseSession) -> None:
        """See `holdfast.contracts.close_session`."""
        await self._ledger.close_session(
            Closing(
                session_id=request.session_id,
                status=request.status,
                reason=request.reason,
                at=request.at,
                saga_id=request.saga.id if request.saga else None,
                outbox=request.outbox,
            )
        )
