"""Who polls a task queue, as Temporal knows it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

from holdfast_workers.temporal import TemporalUnavailable, unreachable

RECENTLY = timedelta(minutes=2)
"""A poll lasts up to a minute, and Temporal lists who polled in the last five."""


async def polled(client: Client, task_queue: str) -> int:
    """How many workers poll the queue for activities. Raises `TemporalUnavailable`."""
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=task_queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
    )
    try:
        answer = await client.workflow_service.describe_task_queue(request)
    except RPCError as error:
        raise TemporalUnavailable(unreachable(client.service_client.config.target_host, error)) from error
    since = datetime.now(UTC) - RECENTLY
    return sum(each.last_access_time.ToDatetime(UTC) >= since for each in answer.pollers)
