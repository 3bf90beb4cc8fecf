"""Where Temporal has a session, and whether it has taken up all that was sent to it. Needs no worker.

The ledger hears of a message when the next activity carries it, so its status may be from before. What a session
says of itself in its search attributes changes with the very workflow task that takes something up.
"""

from __future__ import annotations

from dataclasses import dataclass

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from holdfast.states import SessionStatus
from holdfast_workers.temporal import TemporalUnavailable
from holdfast_workflows import attributes

_WAITS = frozenset({SessionStatus.WAITING, SessionStatus.HELD})


@dataclass(frozen=True, kw_only=True)
class Whereabouts:
    """A running session. `status` is None on a server without the search attributes."""

    status: SessionStatus | None
    untaken: bool
    """Something came that no workflow task has taken up yet: a message, a decision, a finished activity."""
    working: bool
    """An activity runs, or waits for a worker."""

    def standing(self, told: SessionStatus) -> SessionStatus | None:
        """Where the session stands, if it has taken up all that it was sent. `told`: what the ledger says now."""
        if self.untaken:
            return None
        if self.status is None:
            return told if told in _WAITS or not self.working else None
        if self.status is told:
            return told
        if self.working:
            return None
        # Nothing is under way that would tell the ledger. Either another copy of it was told, and this one came
        # back; or the server has some of the attributes and lacks others, and this one is as it was at the start.
        return told if self.status is SessionStatus.RUNNING else self.status


async def whereabouts(temporal: Client, session_id: str) -> Whereabouts | None:
    """None where Temporal runs no such session. Raises `TemporalUnavailable`."""
    try:
        found = await temporal.get_workflow_handle(session_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise TemporalUnavailable(
            f"Temporal does not say where session {session_id} is: {error.message}"
        ) from error
    said = found.typed_search_attributes.get(attributes.STATUS)
    return Whereabouts(
        status=SessionStatus(said) if said else None,
        untaken=found.raw_description.HasField("pending_workflow_task"),
        working=bool(found.raw_description.pending_activities),
    )
