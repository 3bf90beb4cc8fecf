"""What became of workflows, as Temporal itself says: by workflow id and never by visibility, which lags."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

AT_ONCE = 16
"""Questions to Temporal in flight."""
DEAD = {
    WorkflowExecutionStatus.TERMINATED: "was terminated",
    WorkflowExecutionStatus.TIMED_OUT: "timed out",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.CANCELED: "was cancelled",
}


@dataclass(frozen=True)
class Fate:
    """What Temporal says of a workflow's newest run. `status` None: it does not know it."""

    status: WorkflowExecutionStatus | None
    task_queue: str = ""
    closed_at: datetime | None = None

    @property
    def lives(self) -> bool:
        return self.status in (WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.CONTINUED_AS_NEW)


async def fates_of(client: Client, workflow_ids: Iterable[str]) -> dict[str, Fate]:
    """By workflow id. Raises RPCError where Temporal cannot answer now: no answer is no "not found"."""
    room = asyncio.Semaphore(AT_ONCE)

    async def ask(workflow_id: str) -> tuple[str, Fate]:
        async with room:
            return workflow_id, await _fate(client, workflow_id)

    return dict(await asyncio.gather(*(ask(one) for one in workflow_ids)))


async def _fate(client: Client, workflow_id: str) -> Fate:
    try:
        found = await client.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return Fate(None)
        raise
    return Fate(found.status, found.task_queue, found.close_time)
