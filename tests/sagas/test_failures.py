"""Every shipped saga fails at every step in every way, and the travel desk's own log says what stands.

All cases run side by side on one house. `make protocol` runs all of them; every day's tests run one of each kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.service import RPCError, RPCStatusCode

from holdfast.saga_contracts import SAGA_WORKFLOW, SagaInput, SagaResult
from holdfast.states import SagaState
from holdfast_ledger.errors import SagaMissing
from holdfast_workers.sending import Rejected
from tests.sagas.conftest import CHEAPEST, ENDS_WITHIN_S, NEW_DAY, Logged, Sagas

AT_ONCE = 16
ATTEMPTS = 3
"""Of the desk's steps."""
ABORTED, COMMITTED = SagaState.ABORTED, SagaState.COMMITTED
HELD, FORWARD_PENDING = SagaState.HELD, SagaState.FORWARD_PENDING


@dataclass(frozen=True)
class Shipped:
    """A saga of the desk: its writes in order; those after the first `undoable` can only go forward."""

    name: str
    writes: tuple[str, ...]
    undoable: int
    deferred: tuple[str, ...] = ()


REBOOK = Shipped("travel.rebook", ("seat", "change", "hotel", "money", "mail"), 3, ("mail",))
PARTY = Shipped("travel.hold_party", ("seat-1", "seat-2", "seat-3"), 3)
FAILURES = (
    "refused",
    "one answer lost",
    "every answer lost",
    "one answer late",
    "cancelled",
    "aborted",
    "terminated",
    "timed out",
    "unwound while it runs",
    "reset",
)
STOPS = ("cancelled", "aborted", "terminated", "unwound while it runs")


@dataclass(frozen=True)
class Case:
    saga: Shipped
    step: str
    failure: str

    def __str__(self) -> str:
        return f"{self.saga.name}-{self.step}-{self.failure}"

    @property
    def outcomes(self) -> set[SagaState]:
        """How it may end. What was under way when it was stopped may land or not."""
        place = self.saga.writes.index(self.step)
        undoable, deferred = place < self.saga.undoable, self.step in self.saga.deferred
        match self.failure:
            case "one answer lost" | "one answer late" | "reset":
                return {COMMITTED}
            case "refused":
                return {FORWARD_PENDING} if deferred else {ABORTED}
            case "every answer lost" | "terminated":
                return {ABORTED} if undoable else ({FORWARD_PENDING} if deferred else {HELD})
            case "timed out":  # at whichever step it was by then
                return {ABORTED, HELD, FORWARD_PENDING, COMMITTED}
            case "unwound while it runs":
                return {ABORTED} if undoable else ({COMMITTED} if deferred else {HELD})
            case "cancelled":
                return {ABORTED} if undoable else ({FORWARD_PENDING, COMMITTED} if deferred else {COMMITTED})
            case "aborted":
                return {ABORTED} if undoable else {COMMITTED}
        raise AssertionError(self.failure)


EVERY = [Case(saga, step, how) for saga in (REBOOK, PARTY) for step in saga.writes for how in FAILURES]
DAILY = {
    "travel.rebook-seat-refused",
    "travel.rebook-change-one answer lost",
    "travel.rebook-hotel-every answer lost",
    "travel.rebook-hotel-cancelled",
    "travel.rebook-change-terminated",
    "travel.rebook-money-refused",
    "travel.rebook-money-aborted",
    "travel.rebook-money-terminated",
    "travel.rebook-mail-every answer lost",
    "travel.rebook-mail-terminated",
    "travel.rebook-mail-reset",
    "travel.hold_party-seat-2-refused",
    "travel.hold_party-seat-1-every answer lost",
    "travel.hold_party-seat-3-aborted",
    "travel.hold_party-seat-2-terminated",
    "travel.rebook-hotel-unwound while it runs",
    "travel.hold_party-seat-1-unwound while it runs",
}


@pytest.fixture(scope="session")
def chosen(request: pytest.FixtureRequest) -> list[Case]:
    whole = request.config.getoption("--hypothesis-profile") == "chaos"
    return [case for case in EVERY if whole or str(case) in DAILY]


def test_the_cases_of_every_day_are_cases() -> None:
    assert {str(case) for case in EVERY} >= DAILY
    assert {case.failure for case in EVERY if str(case) in DAILY} >= set(FAILURES) - {
        "one answer late",
        "timed out",
    }


@pytest.mark.timeout(600)
async def test_nothing_stands_or_all_of_it_does_or_a_person_is_told(sagas: Sagas, chosen: Sequence[Case]) -> None:
    bookings = await sagas.bookings(3 * len(chosen))
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, case: Case) -> str | None:
        async with room:
            return await judged(sagas, case, bookings[3 * number : 3 * number + 3])

    ends = await asyncio.gather(*(one(number, case) for number, case in enumerate(chosen)))
    wrong = [said for said in ends if said]
    assert not wrong, "\n".join(wrong)
    summary = (await sagas.desk.get("/_log/summary")).json()
    assert summary["duplicates"] == []


async def judged(sagas: Sagas, case: Case, bookings: list[str]) -> str | None:
    """Run the case; what is wrong with how it ended, if anything is."""
    saga = sagas.new_id()
    args = a_trip(bookings) if case.saga is REBOOK else a_party(bookings)
    try:
        async with asyncio.timeout(ENDS_WITHIN_S * 3):
            result = await ended(sagas, case, saga, args)
    except (TimeoutError, AssertionError) as error:
        return f"{case} as {saga}: it did not end: {error}"
    logged = await sagas.logged(saga, case.saga.writes)
    row = await sagas.holdfast.ledger.sagas.row(saga)
    expected = case.outcomes
    if case.failure in STOPS and (row.past_pivot or row.state is COMMITTED):
        expected |= {COMMITTED, FORWARD_PENDING}  # on a busy machine the stop came after its last moment
    problems = [
        *([] if result.outcome in expected else [f"it ended {result.outcome}: {result.reason}"]),
        *misfits(case.saga, result, logged),
        *([] if await sagas.verified(saga) else ["its chain does not hold"]),
    ]
    return f"{case}: {'; '.join(problems)}; log: {logged.carried_out}" if problems else None


def misfits(saga: Shipped, result: SagaResult, logged: Logged) -> list[str]:
    """What the desk's log and the result contradict each other in."""
    first = [step for step in logged.carried_out if not step.endswith(":undo")]
    problems = []
    if len(set(logged.carried_out)) != len(logged.carried_out):
        problems.append("something was carried out twice")
    if result.outcome is ABORTED and logged.standing:
        problems.append(f"it stands: {sorted(logged.standing)}")
    if result.outcome is ABORTED and logged.undone != list(reversed(first)) and saga is REBOOK:
        problems.append(f"undone in the order {logged.undone}")
    if result.outcome is COMMITTED and logged.standing != set(saga.writes):
        problems.append(f"of a committed saga only {sorted(logged.standing)} stands")
    if result.outcome is COMMITTED and logged.undone:
        problems.append(f"a committed saga undid {logged.undone}")
    if result.outcome is FORWARD_PENDING and "money" not in logged.standing:
        problems.append("it goes forward, and its pivot never landed")
    if result.outcome in (HELD, FORWARD_PENDING) and logged.undone:
        problems.append(f"undone before a person said: {logged.undone}")
    return problems


async def ended(sagas: Sagas, case: Case, saga: str, args: Mapping[str, Any]) -> SagaResult:
    step = case.step
    match case.failure:
        case "refused":
            await sagas.breaks(saga, step, "refuse_402")
        case "one answer lost":
            await sagas.breaks(saga, step, "drop_after")
        case "every answer lost":
            await sagas.breaks(saga, step, "drop_after", times=ATTEMPTS)
        case "one answer late":
            await sagas.breaks(saga, step, "stall_after", seconds=8)
        case "cancelled" | "aborted" | "terminated" | "unwound while it runs":
            await sagas.breaks(saga, step, "stall_after", seconds=1)
        case "timed out":
            await sagas.breaks(saga, step, "stall_after", seconds=4)
            return await timed_out(sagas, case, saga, args)
    await sagas.start(case.saga.name, args, saga)
    match case.failure:
        case "cancelled":
            await sagas.struck(saga, step)
            await sagas.handle(saga).cancel()
        case "aborted":
            await sagas.struck(saga, step)
            await abort(sagas, saga)
        case "terminated":
            await sagas.struck(saga, step)
            await terminate(sagas, saga)
            return await unwound(sagas, saga)
        case "unwound while it runs":
            await sagas.struck(saga, step)
            await sagas.unwind(saga)
        case "reset":
            await sagas.result(saga)
            await reset(sagas, saga, case.saga.writes.index(step))
    return await sagas.result(saga)


async def timed_out(sagas: Sagas, case: Case, saga: str, args: Mapping[str, Any]) -> SagaResult:
    """Let Temporal end its run; nobody of ours would give one so short a time."""
    try:
        await sagas.holdfast.temporal.start_workflow(
            SAGA_WORKFLOW,
            SagaInput(name=case.saga.name, args=args),
            id=saga,
            task_queue=sagas.settings.task_queue,
            execution_timeout=timedelta(seconds=3),
        )
        result = await sagas.result(saga)
    except SagaMissing:  # on a slow machine its time was over before it had opened
        return await timed_out(sagas, case, saga, args)
    return result if result.outcome is COMMITTED else await unwound(sagas, saga)


async def unwound(sagas: Sagas, saga: str) -> SagaResult:
    found = await sagas.unwind(saga)
    return SagaResult(outcome=found.outcome, reason=found.reason)


async def abort(sagas: Sagas, saga: str) -> None:
    try:
        await sagas.holdfast.abort_saga(saga, by="bob", reason="a test")
    except Rejected:
        row = await sagas.holdfast.ledger.sagas.row(saga)
        assert row.past_pivot or row.state is COMMITTED


async def terminate(sagas: Sagas, saga: str) -> None:
    try:
        await sagas.handle(saga).terminate("a test")
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:  # else it has ended by itself
            raise


async def reset(sagas: Sagas, saga: str, number: int) -> None:
    """Let Temporal run it again from one of its workflow tasks."""
    completed = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    history = sagas.handle(saga).fetch_history_events()
    tasks = [event.event_id async for event in history if event.event_type == completed]
    temporal = sagas.holdfast.temporal
    await temporal.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=temporal.namespace,
            workflow_execution=WorkflowExecution(workflow_id=saga),
            reason="a test",
            workflow_task_finish_event_id=tasks[min(number, len(tasks) - 2)],
            request_id=f"reset-{saga}",
        )
    )


def a_trip(bookings: Sequence[str]) -> dict[str, Any]:
    return {"booking_id": bookings[0], "date": NEW_DAY}


def a_party(bookings: Sequence[str]) -> dict[str, Any]:
    return {"flight_id": CHEAPEST, "booking_ids": list(bookings)}
