"""What each turn of a finished session left in Temporal's history, and how long it took by the server's clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client


@dataclass(frozen=True)
class TurnCost:
    """From the model activity's scheduling to the next turn's. `size`: bytes of events as they are sent."""

    events: int
    size: int
    seconds: float


async def turn_costs(client: Client, workflow_id: str, model_activity: str) -> list[TurnCost]:
    """The costs of all turns but the last, which ends otherwise, over all runs of the workflow's chain."""
    events = await _events(client, workflow_id)
    begins = [index for index, event in enumerate(events) if _schedules(event, model_activity)]
    return [_cost(events[begin : end + 1]) for begin, end in pairwise(begins)]


def _schedules(event: HistoryEvent, activity: str) -> bool:
    return (
        event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        and event.activity_task_scheduled_event_attributes.activity_type.name == activity
    )


def _cost(events: Sequence[HistoryEvent]) -> TurnCost:
    *turn, following = events
    nanoseconds = following.event_time.ToNanoseconds() - turn[0].event_time.ToNanoseconds()
    return TurnCost(len(turn), sum(event.ByteSize() for event in turn), nanoseconds / 1e9)


async def _events(client: Client, workflow_id: str) -> list[HistoryEvent]:
    """All events of all runs, the oldest first."""
    runs: list[list[HistoryEvent]] = []
    run_id: str | None = None
    while True:
        handle = client.get_workflow_handle(workflow_id, run_id=run_id)
        runs.insert(0, [event async for event in handle.fetch_history_events()])
        run_id = runs[0][0].workflow_execution_started_event_attributes.continued_execution_run_id
        if not run_id:
            return [event for run in runs for event in run]
