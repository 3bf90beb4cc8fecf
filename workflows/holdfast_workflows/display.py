"""What a session shows of itself: status in search attributes, ledger and markdown details.

Search attributes change only when a request starts, waits or ends, in one upsert, and only on a server that has
them: there an unknown one would fail every workflow task. What a run was started with is not written again.
"""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate

from holdfast import ids
from holdfast.facts import Fact, Kind
from holdfast.states import SessionStatus
from holdfast_workflows import attributes
from holdfast_workflows.details import details
from holdfast_workflows.state import SessionState


def _lasts(status: SessionStatus, reason: str) -> bool:
    """Whether people who look should find it: a session that waits, or unwinds, may do so for long."""
    return status in (SessionStatus.WAITING, SessionStatus.HELD) or (
        status is SessionStatus.RUNNING and bool(reason)
    )


def _shown_at_start(state: SessionState) -> tuple[str, int] | None:
    """Status and approvals as whoever started this run, or the run before it, set them; None if one is missing."""
    said = workflow.info().typed_search_attributes
    tenant = state.principal.tenant
    if said.get(attributes.AGENT) != state.agent or (tenant and said.get(attributes.TENANT) != tenant):
        return None
    status, approvals = said.get(attributes.STATUS), said.get(attributes.PENDING_APPROVALS)
    return None if status is None or approvals is None else (status, approvals)


class Display:
    def __init__(self, state: SessionState) -> None:
        self._state = state
        self._shown = _shown_at_start(state)

    def show(self, status: SessionStatus, reason: str = "") -> None:
        state = self._state
        before = (state.status, state.reason)
        state.status, state.reason = status, reason
        self.refresh()
        self._upsert()
        # a turn's claim says `running` and its commit `idle`, so only the other changes cost a fact
        if before != (status, reason) and (_lasts(*before) or _lasts(status, reason)):
            self._tell_ledger()

    def refresh(self) -> None:
        workflow.set_current_details(details(self._state, workflow.info().workflow_id))

    def _upsert(self) -> None:
        state = self._state
        shown = (str(state.status), sum(1 for call in state.asks if call.ask and not call.ask.question))
        if state.plan is None or not state.plan.search_attributes or shown == self._shown:
            return
        updates: list[SearchAttributeUpdate[Any]] = [
            attributes.STATUS.value_set(state.status),
            attributes.PENDING_APPROVALS.value_set(shown[1]),
        ]
        if self._shown is None:
            updates.append(attributes.AGENT.value_set(state.agent))
            if state.principal.tenant:
                updates.append(attributes.TENANT.value_set(state.principal.tenant))
        self._shown = shown
        workflow.upsert_search_attributes(updates)

    def _tell_ledger(self) -> None:
        state = self._state
        state.changes += 1
        # A workflow task may be lost after its facts were told, and its successor may come to another status.
        said = ids.digest(ids.canonical([state.status, state.reason]))[:16]
        state.outbox.append(
            Fact(
                key=f"status:{state.run}:{state.changes}:{said}",
                kind=Kind.SESSION_STATUS,
                at=workflow.now(),
                turn=state.turn,
                outcome=state.status,
                body={"reason": state.reason},
            )
        )
