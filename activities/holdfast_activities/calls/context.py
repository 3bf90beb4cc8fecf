"""The `ToolContext` of one call: what a tool, or its probe, may know and use."""

from __future__ import annotations

import httpx2

from holdfast.catalogue import Catalogue, ToolCard
from holdfast.tools import ToolContext
from holdfast_activities.calls import running
from holdfast_activities.calls.surroundings import Surroundings
from holdfast_activities.resources import RESOURCES


def context_of(
    around: Surroundings,
    catalogue: Catalogue,
    card: ToolCard,
    *,
    key: str,
    session_id: str,
    client: httpx2.AsyncClient,
    leash: running.Leash,
    undo_key: str | None = None,
) -> ToolContext:
    principal = catalogue.principal
    return ToolContext(
        idempotency_key=key,
        session_id=session_id,
        requested_by=principal.requested_by,
        on_behalf_of=principal.on_behalf_of,
        tenant=principal.tenant,
        roles=principal.roles,
        labels=principal.labels,
        undo_key=undo_key,
        deadline=around.now() + card.timeout,
        http=client,
        read_secret=around.read_secret,
        beat=leash.heartbeat,
        resources={RESOURCES: around.resources},
    )
