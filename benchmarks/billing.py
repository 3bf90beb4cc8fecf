"""Which of a history's events Temporal Cloud would bill as actions.

The rules are those of "Temporal Cloud Actions" (docs.temporal.io/cloud/actions), as far as a history shows them.
Heartbeats that reach the server, queries, and updates that a validator refused are billed and leave no event.
"""

from __future__ import annotations

from collections.abc import Iterable

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

ONE_EACH = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,  # each run of a chain that continued as new, too
        EventType.EVENT_TYPE_TIMER_STARTED,
        EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
        EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,  # the child's own start is in its history
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED,
    }
)


def actions(events: Iterable[HistoryEvent]) -> int:
    """Billable actions that these events show."""
    found, runs = 0, 0
    marked: set[tuple[int, int]] = set()
    """Run and workflow task of each marker: the local activities of one task are one action."""
    for event in events:
        if event.event_type in ONE_EACH:
            found += 1
            runs += event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            found += event.activity_task_started_event_attributes.attempt  # the first, and each retry
        elif event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED:
            marked.add((runs, event.marker_recorded_event_attributes.workflow_task_completed_event_id))
    return found + len(marked)
