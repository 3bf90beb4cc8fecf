"""`SagaRun` and `Unwind` on real servers: what they cost, how they end, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowUpdateFailedError

from holdfast.config import Config
from holdfast.errors import DeclarationError
from holdfast.messages import Command
from holdfast.saga_contracts import unwind_id
from holdfast.states import SagaState
from holdfast_activities.tools.book import ToolBook
from holdfast_sagas import Registry, Saga
from holdfast_sagas import saga as declare
from holdfast_sagas.registry import serve
from holdfast_workers.saga_client import SagaRefused
from holdfast_workers.sagas import load_sagas
from holdfast_workers.sending import MessageRefused, Rejected
from tests.sagas.bodies import Hurried, Hurry, Mistake, hurried
from tests.sagas.conftest import ANN, CHEAPEST, NEW_DAY, OLD_DAY, Sagas, effect_of
from tests.waiting import until


async def _body(s: Saga, given: Hurry) -> Hurried:
    return Hurried(hold_id="")


with_a_missing_tool = declare("tests.missing", "1", steps="write_fil")(_body)
with_an_unfit_tool = declare("tests.unfit", "1", steps="restore_file")(_body)

WRITES = ("seat", "change", "hotel", "money", "mail")
HURRIED = ("seat", "other", "another", "forgotten", "money", "mail")


async def a_trip(sagas: Sagas, **more: Any) -> dict[str, Any]:
    (booking,) = await sagas.bookings(1)
    return {"booking_id": booking, "date": NEW_DAY, **more}


async def a_hurry(sagas: Sagas, mistake: Mistake) -> dict[str, Any]:
    (booking,) = await sagas.bookings(1)
    return {"booking_id": booking, "flight_id": CHEAPEST, "mistake": mistake}


async def test_a_saga_commits_and_costs_one_activity_a_step_and_three_more(sagas: Sagas) -> None:
    trip = await a_trip(sagas)
    saga = await sagas.start("travel.rebook", trip)
    result = await sagas.result(saga)
    assert (result.outcome, result.result) == (
        SagaState.COMMITTED,
        {"flight_id": CHEAPEST, "departure": f"{NEW_DAY}T07:25", "paid_back_cents": 6300},
    )
    assert (await sagas.logged(saga, WRITES)).carried_out == WRITES
    activities = await sagas.activities(saga)
    assert activities[0] == "open"
    assert set(activities[2:5]) == {"rules", "customer", "flights"}
    assert activities[1:2] + activities[5:] == [
        "booking",
        "seat",
        "change",
        "nights",
        "hotel",
        "money",
        "end-committing",
        "mail",
        "end-committed",
    ]
    assert await sagas.verified(saga)
    booking = (await sagas.desk.get(f"/bookings/{trip['booking_id']}")).json()
    assert booking["flight_id"] == CHEAPEST
    nights = (await sagas.desk.get(f"/hotel/reservations/{booking['hotel_reservation_id']}")).json()
    assert (nights["check_in"], nights["check_out"]) == (NEW_DAY, "2030-03-15")


async def test_an_unwind_undoes_the_newest_first_in_one_activity_each(sagas: Sagas) -> None:
    trip = await a_trip(sagas)
    saga = sagas.new_id()
    await sagas.breaks(saga, "money", "refuse_402")
    await sagas.start("travel.rebook", trip, saga)
    result = await sagas.result(saga)
    assert result.outcome is SagaState.ABORTED
    assert result.undone == ("hotel move_hotel", "change change_booking", "seat hold_seat")
    assert result.standing == ()
    assert "`money` failed" in result.reason
    logged = await sagas.logged(saga, WRITES)
    assert logged.undone == ["hotel", "change", "seat"]
    assert await sagas.activities(unwind_id(saga)) == [
        "begin",
        "compensate-hotel.move_hotel",
        "compensate-change.change_booking",
        "compensate-seat.hold_seat",
        "end",
    ]
    assert await sagas.verified(saga)
    booking = (await sagas.desk.get(f"/bookings/{trip['booking_id']}")).json()
    assert booking["date"] == OLD_DAY


@pytest.mark.parametrize(
    ("mistake", "outcome", "reason", "standing"),
    [
        ("none", SagaState.COMMITTED, "", {"seat", "money", "mail"}),
        ("raises before the pivot", SagaState.ABORTED, "TypeError: a mistake", set()),
        ("raises after the pivot", SagaState.FORWARD_PENDING, "TypeError: a mistake", {"seat", "money"}),
        ("fails a check", SagaState.ABORTED, "check failed: there is sunshine", set()),
        ("swallows everything", SagaState.ABORTED, "check failed: there is sunshine", set()),
        ("goes another way", SagaState.COMMITTED, "", {"seat", "another", "money", "mail"}),
        ("leaves a step running", SagaState.ABORTED, "await every step", set()),
        ("returns something else", SagaState.ABORTED, "it returned a dict", set()),
    ],
)
async def test_whatever_a_body_does_its_saga_ends_as_it_must(
    sagas: Sagas, mistake: Mistake, outcome: SagaState, reason: str, standing: set[str]
) -> None:
    saga = await sagas.start("tests.hurried", await a_hurry(sagas, mistake))
    result = await sagas.result(saga)
    assert result.outcome is outcome
    assert reason in result.reason
    assert (await sagas.logged(saga, HURRIED)).standing == standing
    assert await sagas.verified(saga)


async def test_an_abort_reaches_a_body_that_waits_and_says_who_and_why(sagas: Sagas) -> None:
    saga = await sagas.start("tests.hurried", await a_hurry(sagas, "waits"))
    await until_landed(sagas, saga, "seat")
    await sagas.holdfast.abort_saga(saga, by="bob", reason="it rains")
    result = await sagas.result(saga)
    assert (result.outcome, result.reason) == (SagaState.ABORTED, "aborted by bob: it rains")
    assert (await sagas.logged(saga, HURRIED)).standing == set()


async def test_a_temporal_cancel_unwinds_and_is_a_cancel_in_the_end(sagas: Sagas) -> None:
    saga = await sagas.start("tests.hurried", await a_hurry(sagas, "waits"))
    await until_landed(sagas, saga, "seat")
    await sagas.handle(saga).cancel()
    result = await sagas.result(saga)
    assert (result.outcome, result.reason) == (SagaState.ABORTED, "cancelled from Temporal")
    assert await sagas.status(saga) is WorkflowExecutionStatus.CANCELED
    assert (await sagas.logged(saga, HURRIED)).standing == set()


async def test_an_unwind_that_was_ended_is_taken_up_by_the_next_and_undoes_nothing_twice(sagas: Sagas) -> None:
    trip, saga = await a_trip(sagas), sagas.new_id()
    await sagas.breaks(saga, "money", "refuse_402")
    await sagas.desk.break_next("*", "stall_after", key=f"{effect_of(saga, 'change')}:undo", seconds=1)
    await sagas.start("travel.rebook", trip, saga)
    await sagas.struck(saga, "change:undo")
    await sagas.handle(unwind_id(saga)).terminate("a test")
    result = await sagas.unwind(saga)
    assert result.outcome is SagaState.ABORTED
    assert (await sagas.logged(saga, WRITES)).undone == ["hotel", "change", "seat"]
    assert await sagas.verified(saga)


async def test_a_body_changed_under_its_version_is_refused_while_a_run_is_open(sagas: Sagas) -> None:
    args = await a_hurry(sagas, "waits")
    saga = await sagas.start("tests.hurried", args)
    await until_landed(sagas, saga, "seat")
    serve(Registry((replace(hurried, source="0" * 64),)))
    try:
        other = await sagas.start("tests.hurried", args)
        with pytest.raises(SagaRefused, match=r"tests\.hurried"):
            await sagas.result(other)
    finally:
        serve(Registry((hurried,)))
    await sagas.holdfast.abort_saga(saga, by="bob")
    assert (await sagas.result(saga)).outcome is SagaState.ABORTED


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("tests.sagas.bodies:nothing", "has no `nothing`"),
        ("tests.sagas.bodies:Hurry", "is a ModelMetaclass and no saga"),
        ("tests.sagas.test_runs:with_a_missing_tool", "there is no tool `write_fil`"),
        ("tests.sagas.test_runs:with_an_unfit_tool", "`restore_file` cannot be undone"),
    ],
)
def test_a_worker_refuses_sagas_that_it_cannot_serve(tmp_path: Path, reference: str, words: str) -> None:
    config = Config(sagas=(reference,))
    with pytest.raises(DeclarationError) as refused:
        load_sagas(config, ToolBook(config, tmp_path))
    assert words in str(refused.value)


async def test_a_signal_aborts_as_well_and_nonsense_changes_nothing(sagas: Sagas) -> None:
    saga = await sagas.start("tests.hurried", await a_hurry(sagas, "waits"))
    await until_landed(sagas, saga, "seat")
    await sagas.handle(saga).signal("abort", 7)
    await sagas.handle(saga).signal("abort", {"by": "bob"})
    result = await sagas.result(saga)
    assert (result.outcome, result.reason) == (SagaState.ABORTED, "aborted by bob")


async def test_past_its_pivot_a_saga_is_not_aborted_but_gone_on_with(sagas: Sagas) -> None:
    saga = sagas.new_id()
    await sagas.breaks(saga, "mail", "stall_before", seconds=1.5)
    await sagas.start("travel.rebook", await a_trip(sagas), saga)
    await sagas.struck(saga, "mail")
    with pytest.raises(Rejected, match=r"past its pivot `money`.*Cancel it"):
        await sagas.holdfast.abort_saga(saga, by="bob")
    with pytest.raises(WorkflowUpdateFailedError):
        await sagas.handle(saga).execute_update("abort", Command(id="1"))
    assert (await sagas.result(saga)).outcome is SagaState.COMMITTED


async def test_what_failed_past_the_pivot_is_tried_again_and_nothing_else(sagas: Sagas) -> None:
    saga = sagas.new_id()
    await sagas.breaks(saga, "mail", "refuse_402")
    await sagas.start("travel.rebook", await a_trip(sagas), saga)
    result = await sagas.result(saga)
    assert result.outcome is SagaState.FORWARD_PENDING
    assert "`mail` failed" in result.reason
    refused = await sagas.unwind(saga)
    assert refused.outcome is SagaState.FORWARD_PENDING
    assert "past its pivot" in refused.reason
    before = (await sagas.logged(saga, WRITES)).carried_out
    assert (await sagas.holdfast.go_on_with_saga(saga)).fresh
    again = await sagas.result(saga)
    assert (again.outcome, again.result) == (
        SagaState.COMMITTED,
        {"flight_id": CHEAPEST, "departure": f"{NEW_DAY}T07:25", "paid_back_cents": 6300},
    )
    assert (await sagas.logged(saga, WRITES)).carried_out == (*before, "mail")
    assert await sagas.verified(saga)


async def test_the_same_start_twice_is_one_saga_and_another_start_is_refused(sagas: Sagas) -> None:
    args = await a_hurry(sagas, "none")
    saga = await sagas.start("tests.hurried", args)
    again = await sagas.holdfast.start_saga("tests.hurried", args, saga_id=saga, principal=ANN)
    assert not again.fresh
    with pytest.raises(Rejected, match="used before, for another start"):
        await sagas.holdfast.start_saga("tests.hurried", {**args, "mistake": "waits"}, saga_id=saga, principal=ANN)
    assert (await sagas.result(saga)).outcome is SagaState.COMMITTED


@pytest.mark.parametrize(
    ("name", "version", "args", "words"),
    [
        ("travel.rebok", None, {}, "did you mean `travel.rebook`?"),
        ("travel.rebook", "7", {}, "no version 7 of saga `travel.rebook`; known versions: 1"),
        ("travel.rebook", None, {"date": "tomorrow"}, "`booking_id`: Field required; `date`: String should match"),
    ],
)
async def test_a_saga_that_cannot_begin_is_refused_in_words(
    sagas: Sagas, name: str, version: str | None, args: dict[str, Any], words: str
) -> None:
    saga = sagas.new_id()
    await sagas.holdfast.start_saga(name, args, version=version, saga_id=saga)
    with pytest.raises(SagaRefused) as refused:
        await sagas.result(saga)
    assert words in str(refused.value)
    assert await sagas.status(saga) is WorkflowExecutionStatus.FAILED


async def test_an_id_that_cannot_be_one_is_refused(sagas: Sagas) -> None:
    with pytest.raises(MessageRefused, match="cannot be"):
        await sagas.holdfast.start_saga("travel.rebook", {}, saga_id="a/b")


async def until_landed(sagas: Sagas, saga: str, step: str) -> None:
    async def landed() -> bool:
        return step in (await sagas.logged(saga, (step,))).carried_out

    await until(landed, f"{step} to land")
