"""The Temporal Schedule that runs `Sweep`: one per task queue, since only its workers have the code to undo."""

from __future__ import annotations

import logging
from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError

from holdfast.saga_contracts import SWEEP_WORKFLOW, SweepInput

DEFAULT_EVERY = timedelta(minutes=1)
_log = logging.getLogger("holdfast.sweep")


def schedule_id(task_queue: str) -> str:
    return f"holdfast-sweep-{task_queue}"


def sweeps(task_queue: str, every: timedelta) -> Schedule:
    """A sweep that was missed is not made up for, and one that still runs is not joined by another."""
    return Schedule(
        action=ScheduleActionStartWorkflow(
            SWEEP_WORKFLOW, SweepInput(), id=f"sweep-{task_queue}", task_queue=task_queue
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(minutes=1)),
    )


async def ensure_schedule(client: Client, task_queue: str, every: timedelta = DEFAULT_EVERY) -> None:
    """Make the schedule, or give it this interval; whether it is paused stays a person's to say.

    A cluster that refuses is no reason not to serve sessions: it is logged, and `holdfast saga sweep` does as much.
    """
    wanted = sweeps(task_queue, every)
    try:
        await client.create_schedule(schedule_id(task_queue), wanted)
    except ScheduleAlreadyRunningError:
        await _refresh(client, task_queue, wanted)
    except RPCError as error:
        _log.warning("no schedule for the sweep", extra={"task_queue": task_queue, "error": error.status.name})


async def _refresh(client: Client, task_queue: str, wanted: Schedule) -> None:
    def updated(known: ScheduleUpdateInput) -> ScheduleUpdate | None:
        schedule = known.description.schedule
        if [one.every for one in schedule.spec.intervals] == [one.every for one in wanted.spec.intervals]:
            return None
        schedule.spec = wanted.spec
        return ScheduleUpdate(schedule)

    try:
        await client.get_schedule_handle(schedule_id(task_queue)).update(updated)
    except RPCError as error:
        _log.warning(
            "the sweep keeps its old interval", extra={"task_queue": task_queue, "error": error.status.name}
        )
