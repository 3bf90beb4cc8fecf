"""What a session shows of itself: status in search attributes, ledger and markdown details.

Search attributes change only when a request starts, waits or ends, in one upsert.
"""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate

from holdfast.facts import Fact, Kind
from holdfast.states import SessionStatus
from holdfast_workflows import attributes
from holdfast_workflows.details import details
from holdfast_workflows.state import SessionState

_PAUSED = {SessionStatus.WAITING, SessionStatus.HELD}


class Display:
    def __init__(self, state: SessionState) -> None:
        self._state = state
        self._shown: tuple[SessionStatus, int] | None = None

    def show(self, status: SessionStatus, reason: str = "") -> None:
        state = self._state
        before, changed = state.status, status is not state.status or reason != state.reason
        state.status, state.reason = status, reason
        self.refresh()
        pending = sum(1 for call in state.asks if call.ask and not call.ask.question)
        if (status, pending) == self._shown:
            return
        first = self._shown is None
        self._shown = (status, pending)
        updates: list[SearchAttributeUpdate[Any]] = [
            attributes.STATUS.value_set(status),
            attributes.PENDING_APPROVALS.value_set(pending),
        ]
        if first:
            updates.append(attributes.AGENT.value_set(state.agent))
            if state.principal.tenant:
                updates.append(attributes.TENANT.value_set(state.principal.tenant))
        workflow.upsert_search_attributes(updates)
        # a turn's claim says `running` and its commit `idle`, so only the other changes cost a fact
        if changed and (status in _PAUSED or before in _PAUSED):
            self._tell_ledger(status, reason)

    def refresh(self) -> None:
        workflow.set_current_details(details(self._state, workflow.info().workflow_id))

    def _tell_ledger(self, status: SessionStatus, reason: str) -> None:
        self._state.changes += 1
        self._state.outbox.append(
            Fact(
                key=f"status:{self._state.head[:12]}:{self._state.changes}",
                kind=Kind.SESSION_STATUS,
                at=workflow.now(),
                turn=self._state.turn,
                outcome=status,
                body={"reason": reason},
            )
        )
