"""Reaching workflows: one Temporal namespace and one ledger, and commands that arrive once.

A command is an Update with an id its sender chose, and a durable signal of the same name and id where no worker
answers in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from holdfast.errors import HoldfastError
from holdfast.messages import Receipt, SessionResult
from holdfast.wire import Wire
from holdfast_ledger.store import Ledger
from holdfast_workers.sending import Delivered, Rejected, SessionEnded, SessionNotFound
from holdfast_workers.settings import TASK_QUEUE, Fairness
from holdfast_workers.telemetry.ambient import ambient_trace
from holdfast_workers.temporal import TemporalUnavailable, namespace_missing

UPDATE_WITHIN = timedelta(seconds=5)
"""How long a worker may take to answer an Update before the signal takes its place."""


class Reach:
    """What every command needs."""

    def __init__(
        self,
        temporal: Client,
        ledger: Ledger,
        *,
        task_queue: str = TASK_QUEUE,
        fairness: Fairness = "off",
        trace: Mapping[str, str] | None = None,
    ) -> None:
        """Args:
        fairness: among whom Temporal shares the workers' time, where it has `matching.enableFairness`.
        trace: W3C trace context that requests join where no span is active.
        """
        self._ambient = trace or {}
        self.temporal = temporal
        self.ledger = ledger
        self._task_queue = task_queue
        self._fairness = fairness

    def _trace(self, given: Mapping[str, str] | None) -> dict[str, str]:
        """What the request's spans join: the caller's trace, else the active span, else the environment's trace."""
        return dict(given) if given is not None else ambient_trace() or dict(self._ambient)

    async def _deliver(self, session_id: str, name: str, command_id: str, payload: Wire) -> Delivered:
        """Send as an Update; as a signal of the same name and id where no worker answers in time."""
        handle = self._handle(session_id)
        try:
            receipt = await asyncio.wait_for(
                handle.execute_update(name, payload, id=command_id, result_type=Receipt, rpc_timeout=UPDATE_WITHIN),
                UPDATE_WITHIN.total_seconds(),
            )
        except WorkflowUpdateFailedError as failure:
            raise refusal(session_id, failure) from failure
        except (WorkflowUpdateRPCTimeoutOrCancelledError, TimeoutError):
            if (task := asyncio.current_task()) and task.cancelling():
                raise asyncio.CancelledError from None  # the SDK reports our own cancellation as a timeout
        except RPCError as error:
            # More Updates than one session can hold at once wait, too; anything else is final.
            if error.status is not RPCStatusCode.RESOURCE_EXHAUSTED:
                await self._must_run(session_id)
                raise self._explained(session_id, error) from error
        else:
            return Delivered(id=receipt.id, how=receipt.accepted, detail=receipt.detail, message=receipt.message)
        try:
            await handle.signal(name, payload)
        except RPCError as error:
            raise self._explained(session_id, error) from error
        return Delivered(id=command_id, how="recorded", detail="recorded, waits for a worker")

    async def _must_run(self, session_id: str) -> None:
        """Raise `SessionNotFound` or `SessionEnded` unless Temporal runs the session."""
        try:
            description = await self._handle(session_id).describe()
        except RPCError as error:
            raise self._explained(session_id, error) from error
        if description.status is not WorkflowExecutionStatus.RUNNING:
            how = description.status.name.lower() if description.status else "ended"
            raise SessionEnded(
                f"The session {session_id} has ended ({how}) and takes nothing more; start another one."
            )

    def _handle(self, session_id: str) -> WorkflowHandle[Any, SessionResult]:
        return self.temporal.get_workflow_handle(session_id, result_type=SessionResult)

    def _explained(self, session_id: str, error: RPCError) -> HoldfastError:
        """Temporal's refusal in the product's words."""
        if error.status is RPCStatusCode.NOT_FOUND and error.message.lower().startswith("namespace "):
            return namespace_missing(self.temporal)
        if error.status is RPCStatusCode.NOT_FOUND:
            return SessionNotFound(
                f"Temporal has no running session `{session_id}` in namespace `{self.temporal.namespace}`."
            )
        if error.status in (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED):
            address = self.temporal.service_client.config.target_host
            return TemporalUnavailable(f"Temporal at {address} stopped answering; run the command again.")
        return HoldfastError(f"Temporal refused: {error.message}.")


def refusal(session_id: str, failure: WorkflowUpdateFailedError) -> HoldfastError:
    """A validator's refusal: its words, and its code where it gave one."""
    cause = failure.cause
    if isinstance(cause, ApplicationError):
        if cause.type == "AcceptedUpdateCompletedWorkflow":
            return SessionEnded(f"The session {session_id} ended before it could answer.")
        return Rejected(cause.message, cause.type or "invalid")
    return Rejected(str(cause), "invalid")
