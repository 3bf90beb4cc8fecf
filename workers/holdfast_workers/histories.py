"""What Temporal's histories say of a session's effects: every activity that was scheduled for one, and its answer.

All runs that are retained are read, back through continuations and resets. Where a run is gone, less is known:
`whole` is false then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from holdfast import contracts, ids, saga_contracts
from holdfast.contracts import CallOutcome, ExecuteCall, ModelTurn, TurnResult
from holdfast.saga_contracts import Compensate, ExecuteStep, StepOutcome

UNDO = ":undo"
"""What the effect id of a compensation has behind that of its step."""
FORMS: dict[str, tuple[type[BaseModel], type[BaseModel]]] = {
    contracts.model_turn.__name__: (ModelTurn, TurnResult),
    contracts.execute_call.__name__: (ExecuteCall, CallOutcome),
    contracts.probe_call.__name__: (ExecuteCall, CallOutcome),
    saga_contracts.execute_step.__name__: (ExecuteStep, StepOutcome),
    saga_contracts.compensate.__name__: (Compensate, StepOutcome),
}
"""Activities that are one effect each: what they take and give."""


@dataclass(frozen=True, kw_only=True)
class Activity:
    """One activity of one run. `result` is None until it has completed."""

    name: str
    activity_id: str
    input: Any
    result: Any = None

    @property
    def effect_id(self) -> str | None:
        """The effect it is for; None where that is named by its step, see `step`."""
        match self.input:
            case ModelTurn(session_id=session, turn=turn, head=head):
                return ids.effect_id(session, ids.turn_path(turn), head)
            case ExecuteCall(session_id=session, turn=turn, tool_use_id=use, head=head):
                return ids.effect_id(session, ids.call_path(turn, use), head)
            case Compensate(undo_of=step):
                return f"{step}{UNDO}"
        return None

    @property
    def step(self) -> str | None:
        return self.input.step if isinstance(self.input, ExecuteStep) else None


@dataclass(frozen=True, kw_only=True)
class History:
    """`retained` False: nothing is left of the workflow. `whole`: every run is, back to its first.

    Activities stand in the order they were scheduled, those of older runs first.
    """

    retained: bool
    whole: bool
    activities: tuple[Activity, ...] = ()


@dataclass
class _Run:
    """One run as it is read."""

    scheduled: dict[int, Activity] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    """Runs it goes on from."""


async def read_history(client: Client, workflow_id: str) -> History:
    """Raises `RPCError` where Temporal cannot be asked."""
    found: list[Activity] = []
    wanted: list[str | None] = [None]
    seen: set[str] = set()
    whole = True
    while wanted:
        run_id = wanted.pop()
        run = await _read_run(client, workflow_id, run_id)
        if run is None:
            if run_id is None:
                return History(retained=False, whole=False)
            whole = False
            continue
        found[:0] = run.scheduled.values()
        wanted += [before for before in run.before if before not in seen]
        seen.update(run.before)
    return History(retained=True, whole=whole, activities=tuple(found))


async def _read_run(client: Client, workflow_id: str, run_id: str | None) -> _Run | None:
    """One run's activities; None where it is not retained."""
    run = _Run()
    try:
        async for event in client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history_events():
            await _take(client, event, run)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    return run


async def _take(client: Client, event: HistoryEvent, run: _Run) -> None:
    match event.event_type:
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
            started = event.workflow_execution_started_event_attributes
            run.before += [started.continued_execution_run_id] if started.continued_execution_run_id else []
        case EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:  # that is how a reset begins
            base = event.workflow_task_failed_event_attributes.base_run_id
            run.before += [base] if base else []
        case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            asked = event.activity_task_scheduled_event_attributes
            if forms := FORMS.get(asked.activity_type.name):
                run.scheduled[event.event_id] = Activity(
                    name=asked.activity_type.name,
                    activity_id=asked.activity_id,
                    input=await _decoded(client, asked.input, forms[0]),
                )
        case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            ended = event.activity_task_completed_event_attributes
            if activity := run.scheduled.get(ended.scheduled_event_id):
                result = await _decoded(client, ended.result, FORMS[activity.name][1])
                run.scheduled[ended.scheduled_event_id] = Activity(
                    name=activity.name, activity_id=activity.activity_id, input=activity.input, result=result
                )


async def _decoded(client: Client, payloads: Payloads, form: type[BaseModel]) -> Any:
    [value] = await client.data_converter.decode(payloads.payloads, [form])
    return value
