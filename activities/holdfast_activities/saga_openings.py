"""Opening, moving and holding sagas as a whole: the activities around the steps of a code-defined one.

A saga that cannot open is refused in words, not failed: its workflow says so.
"""

from __future__ import annotations

import secrets
from datetime import timedelta

from temporalio import activity

from holdfast import ids
from holdfast.catalogue import AgentSpec, Catalogue
from holdfast.contracts import SagaRef
from holdfast.errors import DeclarationError
from holdfast.guards import LEASE
from holdfast.policy import Policy
from holdfast.queues import Queues
from holdfast.saga_contracts import (
    EndSaga,
    HoldSaga,
    OpenSaga,
    SagaInput,
    SagaPlan,
)
from holdfast.states import SagaState
from holdfast_activities.tools.book import ToolBook, catalogue_body
from holdfast_activities.tools.builtin import READ_RESULT
from holdfast_ledger.saga_records import MoveSaga, SagaOpening
from holdfast_ledger.store import Ledger

SALT_BYTES = 16


class SagaOpenings:
    """Opens, moves and holds sagas over the worker's ledger and tool book."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        book: ToolBook,
        lease: timedelta = LEASE,
        search_attributes: bool = False,
        queues: Queues = Queues(),  # noqa: B008 - frozen
    ) -> None:
        """Args:
        lease: `[effects] lease`, for the saga to notice a dead worker by.
        search_attributes: whether this Temporal knows Holdfast's.
        queues: `[queues]`.
        """
        self._ledger = ledger
        self._book = book
        self._lease = lease
        self._search_attributes = search_attributes
        self._queues = queues

    @activity.defn
    async def open_saga(self, request: OpenSaga) -> SagaPlan:
        """See `holdfast.saga_contracts.open_saga`."""
        try:
            catalogue = self._catalogue(request)
        except DeclarationError as error:
            return SagaPlan(refused=str(error))
        moved = await self._ledger.sagas.open(_opening(request, catalogue))
        if moved.code is not None:
            return SagaPlan(refused=moved.said)
        row = await self._ledger.sagas.row(request.saga_id)
        stored = await self._ledger.catalogue(row.catalogue_digest or "")
        started = SagaInput.model_validate(row.input or {"name": request.name})
        return SagaPlan(
            saga=SagaRef(id=request.saga_id, epoch=row.epoch),
            catalogue=row.catalogue_digest or "",
            salt=(row.salt or b"").hex(),
            tools=tuple(card.plan for card in stored.tools),
            lease=self._lease,
            search_attributes=self._search_attributes,
            queues=self._queues,
            version=row.version or "",
            args=started.args,
            state=row.state,
            past_pivot=row.past_pivot,
            reason=row.reason,
            result=row.result,
        )

    def _catalogue(self, request: OpenSaga) -> Catalogue:
        """Raises DeclarationError with every tool that cannot be resolved."""
        spec = AgentSpec(name=f"@saga/{request.name}", tools=request.tools, policy=Policy(on_abort="keep"))
        found = self._book.resolve(spec)
        tools = tuple(card for card in found.tools if card.name != READ_RESULT or READ_RESULT in request.tools)
        return Catalogue(agent=spec, principal=request.principal, tools=tools, compensations=found.compensations)

    @activity.defn
    async def end_saga(self, request: EndSaga) -> SagaState:
        """See `holdfast.saga_contracts.end_saga`."""
        moved = await self._ledger.sagas.move(
            MoveSaga(
                session_id=request.saga.id,
                saga_id=request.saga.id,
                epoch=request.saga.epoch,
                state=request.state,
                reason=request.reason,
                result=None if request.result is None else ids.canonical(request.result),
                outbox=request.outbox,
            )
        )
        return moved.state or SagaState.HELD

    @activity.defn
    async def hold_saga(self, request: HoldSaga) -> bool:
        """See `holdfast.saga_contracts.hold_saga`."""
        return await self._ledger.sagas.hold(
            request.session_id, request.saga_id, expected=request.expected, reason=request.reason
        )


def _opening(request: OpenSaga, catalogue: Catalogue) -> SagaOpening:
    digest, body = catalogue_body(catalogue)
    principal = request.principal
    started = SagaInput(
        name=request.name, version=request.version, args=request.args, principal=principal, parent=request.parent
    )
    return SagaOpening(
        saga_id=request.saga_id,
        run_id=request.run_id,
        name=request.name,
        version=request.version,
        source=request.source,
        catalogue_digest=digest,
        catalogue=body,
        input=ids.canonical(started.model_dump(mode="json")),
        salt=secrets.token_bytes(SALT_BYTES),
        requested_by=principal.requested_by,
        on_behalf_of=principal.on_behalf_of,
        tenant=principal.tenant,
        roles=principal.roles,
        labels=principal.labels,
        parent=request.parent,
        started_at=request.started_at,
        task_queue=activity.info().task_queue,
    )
