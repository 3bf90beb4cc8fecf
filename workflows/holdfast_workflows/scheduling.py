"""What every activity that a session schedules carries: a name for people, its timeouts, its retries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

from holdfast import contracts

Asked = TypeVar("Asked")
Told = TypeVar("Told")

SHORT = timedelta(minutes=1)
"""Start-to-close of an activity that only asks or tells Postgres."""

BRIEF = timedelta(seconds=5)
"""The same inside the workflow task, which has ten seconds."""


async def briefly(
    activity: Callable[[Asked], Awaitable[Told]], request: Asked, activity_id: str, summary: str
) -> Told:
    """Ask or tell Postgres inside the workflow task; an ordinary activity waits where Postgres is away.

    `activity` must be idempotent: what it did within the task counts as nothing where the task is lost.
    """
    try:
        return await workflow.execute_local_activity(
            activity, request, **inline_options(activity_id, summary, BRIEF)
        )
    except FailureError as error:
        if is_cancelled_exception(error):
            raise
    return await workflow.execute_activity(activity, request, **options(activity_id, summary, SHORT))


def inline_options(activity_id: str, summary: str, timeout: timedelta) -> workflow.LocalActivityConfig:
    """One attempt inside the workflow task; where that settles nothing, an ordinary activity takes over."""
    return workflow.LocalActivityConfig(
        activity_id=activity_id,
        summary=summary[:200],
        start_to_close_timeout=timeout,
        retry_policy=contracts.ONCE,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def options(
    activity_id: str, summary: str, timeout: timedelta, *, lease: timedelta = contracts.LEASE, queue: str = ""
) -> workflow.ActivityConfig:
    """An effect ends by returning its outcome, so retries do not end it. A dead worker is noticed in a lease.

    Args:
        queue: the task queue it waits on; empty: the workflow's own.
    """
    return workflow.ActivityConfig(
        task_queue=queue or None,
        activity_id=activity_id,
        summary=summary[:200],
        start_to_close_timeout=timeout,
        heartbeat_timeout=max(lease, contracts.SHORTEST_HEARTBEAT),
        retry_policy=contracts.SETTLE,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )
