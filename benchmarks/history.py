"""What each turn of a finished session left in Temporal's history, and how long it took by the server's clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from temporalio.api.enums.v1 import EventType, TimeoutType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

from benchmarks.billing import actions


@dataclass(frozen=True)
class TurnCost:
    """From the model activity's scheduling to the next turn's. `size`: bytes of events as they are sent."""

    events: int
    size: int
    seconds: float
    actions: int
    """That Temporal Cloud would bill."""
    continued: bool
    """The session continued as new in it."""


def costs_in(events: Sequence[HistoryEvent], model_activity: str) -> list[TurnCost]:
    """The costs of all turns but the last, which ends otherwise."""
    begins = [index for index, event in enumerate(events) if _schedules(event, model_activity)]
    return [_cost(events[begin:end], events[end]) for begin, end in pairwise(begins)]


async def events_of(client: Client, workflow_id: str) -> list[HistoryEvent]:
    """All events of all runs, the oldest first."""
    runs: list[list[HistoryEvent]] = []
    run_id: str | None = None
    while True:
        handle = client.get_workflow_handle(workflow_id, run_id=run_id)
        runs.insert(0, [event async for event in handle.fetch_history_events()])
        run_id = runs[0][0].workflow_execution_started_event_attributes.continued_execution_run_id
        if not run_id:
            return [event for run in runs for event in run]


def count(events: Sequence[HistoryEvent], kind: EventType.ValueType) -> int:
    return sum(event.event_type == kind for event in events)


def unanswered(events: Sequence[HistoryEvent]) -> int:
    """Workflow tasks that a worker had and did not answer within their ten seconds."""
    return sum(_timed_out(event, TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE) for event in events)


def unfetched(events: Sequence[HistoryEvent]) -> int:
    """Workflow tasks that a busy worker left in its sticky queue until they were given to any worker."""
    return sum(_timed_out(event, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START) for event in events)


@dataclass(frozen=True, order=True)
class Gap:
    """The time between two events that follow each other."""

    seconds: float
    before: str
    """The name of the event that ended it."""


def longest_gap(events: Sequence[HistoryEvent]) -> Gap:
    return max(
        Gap(_seconds(event, following), EventType.Name(following.event_type).removeprefix("EVENT_TYPE_"))
        for event, following in pairwise(events)
    )


def _timed_out(event: HistoryEvent, kind: TimeoutType.ValueType) -> bool:
    return (
        event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT
        and event.workflow_task_timed_out_event_attributes.timeout_type == kind
    )


def _seconds(event: HistoryEvent, later: HistoryEvent) -> float:
    return (later.event_time.ToNanoseconds() - event.event_time.ToNanoseconds()) / 1e9


def _schedules(event: HistoryEvent, activity: str) -> bool:
    return (
        event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        and event.activity_task_scheduled_event_attributes.activity_type.name == activity
    )


def _cost(turn: Sequence[HistoryEvent], following: HistoryEvent) -> TurnCost:
    return TurnCost(
        events=len(turn),
        size=sum(event.ByteSize() for event in turn),
        seconds=_seconds(turn[0], following),
        actions=actions(turn),
        continued=count(turn, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW) > 0,
    )
