"""Runs that were terminated in the middle: what Temporal alone, the schedule and the next run make of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from holdfast.saga_contracts import unwind_id
from holdfast.states import SagaState
from holdfast_workers.sweeping import ensure_schedule, schedule_id
from tests.sagas.conftest import ANN, CHEAPEST, ENDS_WITHIN_S, NEW_DAY, Sagas, effect_of
from tests.waiting import until

WRITES = ("seat", "change", "hotel", "money", "mail")
EVERY = timedelta(seconds=1)
A_BUSY_MACHINES = timedelta(seconds=20)


async def a_trip(sagas: Sagas) -> dict[str, str]:
    (booking,) = await sagas.bookings(1)
    return {"booking_id": booking, "date": NEW_DAY}


async def until_state(sagas: Sagas, saga: str, state: SagaState) -> None:
    async def reached() -> bool:
        return (await sagas.holdfast.ledger.sagas.row(saga)).state is state

    await until(reached, f"{saga} to be {state}", within=ENDS_WITHIN_S)


async def test_the_schedule_has_a_terminated_run_unwound_soon(sagas: Sagas) -> None:
    saga = sagas.new_id()
    await sagas.breaks(saga, "hotel", "stall_after", seconds=3)
    await sagas.start("travel.rebook", await a_trip(sagas), saga)
    await sagas.struck(saga, "hotel")
    await sagas.handle(saga).terminate("a test")
    terminated = datetime.now(UTC)
    await ensure_schedule(sagas.holdfast.temporal, sagas.settings.task_queue, EVERY)
    try:
        await until_state(sagas, saga, SagaState.ABORTED)
    finally:
        await sagas.holdfast.temporal.get_schedule_handle(schedule_id(sagas.settings.task_queue)).delete()

    unwind = await sagas.handle(unwind_id(saga)).describe()
    assert unwind.start_time - terminated < EVERY + timedelta(seconds=5) + A_BUSY_MACHINES
    assert (await sagas.logged(saga, WRITES)).undone == ["hotel", "change", "seat"]
    assert await sagas.verified(saga)


async def test_a_run_terminated_past_its_pivot_is_started_again_and_commits(sagas: Sagas) -> None:
    saga, trip = sagas.new_id(), await a_trip(sagas)
    lost = sagas.losses.lose(saga, "mail")
    await sagas.start("travel.rebook", trip, saga)
    await lost.wait()
    await sagas.handle(saga).terminate("a test")

    found = await sagas.holdfast.sweep()

    assert found.started == (saga,)
    result = await sagas.result(saga)
    assert (result.outcome, result.result["flight_id"]) == (SagaState.COMMITTED, CHEAPEST)
    assert (await sagas.logged(saga, WRITES)).carried_out == WRITES
    again = await sagas.holdfast.start_saga("travel.rebook", trip, saga_id=saga, principal=ANN)
    assert not again.fresh
    assert await sagas.verified(saga)


@pytest.mark.parametrize(("fault", "landed"), [("drop_after", True), ("drop_before", False)])
async def test_a_step_nobody_can_tell_of_is_undone_by_its_key_if_it_happened(
    sagas: Sagas, fault: str, landed: bool
) -> None:
    saga, steps = sagas.new_id(), ("first", "second")
    (booking,) = await sagas.bookings(1)
    await sagas.breaks(saga, "second", fault)
    await sagas.start("tests.blind", {"booking_id": booking, "flight_id": CHEAPEST}, saga)

    result = await sagas.result(saga)

    assert (result.outcome, result.standing) == (SagaState.ABORTED, ()), result.reason
    logged = (await sagas.logged(saga, steps)).carried_out
    assert logged == (("first", "second", "second:undo", "first:undo") if landed else ("first", "first:undo"))
    assert (await sagas.desk.became(effect_of(saga, "second")))["state"] == ("landed" if landed else "refused")
    assert (await sagas.compensations(saga))[0] == "compensate-second.hold_blindly"
    assert await sagas.verified(saga)
