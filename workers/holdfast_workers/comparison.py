"""Holding a session's ledger against Temporal's history of it, while that is retained.

What an activity told Temporal it had recorded must stand in the ledger, message digest by message digest. The other
way round proves nothing: a turn of a branch that a reset left behind stands in the ledger alone, and rightly so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from holdfast import contracts
from holdfast.contracts import CallOutcome, TurnResult
from holdfast.states import CallStatus
from holdfast_ledger.reading import Reader

MODEL_TURN = contracts.model_turn.__name__
EXECUTE_CALL = contracts.execute_call.__name__


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`compared` False: Temporal keeps nothing of the session any more. `problem`: what the ledger lacks."""

    session_id: str
    compared: bool
    turns: int = 0
    calls: int = 0
    problem: str | None = None


async def compare(client: Client, reader: Reader, session_id: str) -> Comparison:
    """Raises `RPCError` where Temporal cannot be asked, `LedgerUnavailable`."""
    if not await is_retained(client, session_id):
        return Comparison(session_id=session_id, compared=False)
    entries = await reader.timeline(session_id)
    messages = {
        (entry.turn, entry.body.get("message")) for entry in entries if entry.kind == "model_turn" and entry.body
    }
    done = {entry.call for entry in entries if entry.kind in ("effect_outcome", "effect_resolved")}
    turns = calls = 0
    async for activity, result in completed(client, session_id):
        if isinstance(result, TurnResult) and result.message:
            turns += 1
            if (turn_of(activity), result.message) not in messages:
                problem = f"Temporal has an answer of `{activity}` that the ledger does not have"
                return Comparison(session_id=session_id, compared=True, turns=turns, calls=calls, problem=problem)
        if isinstance(result, CallOutcome) and result.status is CallStatus.OK:
            calls += 1
            if call_of(activity) not in done:
                problem = f"Temporal has an outcome of `{activity}` that the ledger does not have"
                return Comparison(session_id=session_id, compared=True, turns=turns, calls=calls, problem=problem)
    return Comparison(session_id=session_id, compared=True, turns=turns, calls=calls)


async def is_retained(client: Client, session_id: str) -> bool:
    try:
        await client.get_workflow_handle(session_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


async def completed(client: Client, session_id: str) -> AsyncIterator[tuple[str, TurnResult | CallOutcome]]:
    """Every completed model turn and call of all retained runs, as (activity id, result), newest run first."""
    run_id: str | None = None
    while True:
        handle = client.get_workflow_handle(session_id, run_id=run_id)
        before = ""
        scheduled: dict[int, tuple[str, str]] = {}
        try:
            async for event in handle.fetch_history_events():
                match event.event_type:
                    case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                        before = event.workflow_execution_started_event_attributes.continued_execution_run_id
                    case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                        named = event.activity_task_scheduled_event_attributes
                        scheduled[event.event_id] = (named.activity_id, named.activity_type.name)
                    case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                        if (found := await result_of(client, event, scheduled)) is not None:
                            yield found
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return  # this run, and all before it, are no longer retained
            raise
        if not before:
            return
        run_id = before


async def result_of(
    client: Client, event: HistoryEvent, scheduled: dict[int, tuple[str, str]]
) -> tuple[str, TurnResult | CallOutcome] | None:
    attributes = event.activity_task_completed_event_attributes
    activity_id, kind = scheduled[attributes.scheduled_event_id]
    types: dict[str, Any] = {MODEL_TURN: TurnResult, EXECUTE_CALL: CallOutcome}
    if kind not in types:
        return None
    [result] = await client.data_converter.decode(attributes.result.payloads, [types[kind]])
    return activity_id, result


def turn_of(activity: str) -> int:
    """`turn-3` is turn 3."""
    return int(activity.removeprefix("turn-").partition(".")[0])


def call_of(activity: str) -> str:
    """`turn-3.1.search_flights` is call 3.1."""
    turn, index, *_ = activity.removeprefix("turn-").split(".")
    return f"{turn}.{index}"
