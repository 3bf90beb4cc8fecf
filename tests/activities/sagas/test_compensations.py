"""Undos: when they run, under which key, and what a step in doubt takes before it is undone."""

from __future__ import annotations

import pytest
from temporalio.exceptions import ApplicationError

from holdfast.states import CallStatus, EffectState, SagaState
from holdfast_sagas.unwinding import SETTLE_TRIES
from tests.activities.sagas.conftest import Desk
from tests.activities.tools.conftest import Service


async def test_a_step_is_undone_once_under_a_key_of_its_own(desk: Desk, service: Service) -> None:
    await desk.step("seat", "book", path="ok")
    await desk.begin()

    first = await desk.compensate("seat")
    again = await desk.compensate("seat")

    assert first == again
    assert first.status is CallStatus.OK
    assert service.effects == {desk.key("seat"): 1, f"{desk.key('seat')}:undo": 1}
    assert (await desk.planned()).undo_state is EffectState.DONE
    undo = (await desk.effects())[f"{desk.key('seat')}:undo"]
    assert (undo["kind"], undo["undo_tool"], undo["tool"]) == ("undo", None, "unbook")
    assert await desk.end(SagaState.ABORTED) is SagaState.ABORTED


async def test_an_undo_that_is_refused_fails_at_once_and_says_why_in_the_plan(desk: Desk) -> None:
    await desk.step("seat", "book", path="ok", undo_path="refuse")
    await desk.begin()

    outcome = await desk.compensate("seat")

    assert (outcome.status, outcome.text) == (CallStatus.ERROR, "no such booking")
    planned = await desk.planned()
    assert (planned.undo_state, planned.undo_said) == (EffectState.FAILED, "no such booking")


async def test_an_undo_whose_service_fails_is_tried_again(desk: Desk) -> None:
    await desk.step("seat", "book", path="ok", undo_path="status/503")
    await desk.begin()

    with pytest.raises(ApplicationError) as raised:
        await desk.compensate("seat")

    assert raised.value.type == "Tool.unknown"
    assert not raised.value.non_retryable
    assert (await desk.planned()).undo_state is EffectState.OPEN


async def test_a_stopped_undo_waits_and_uses_up_no_attempt(desk: Desk, service: Service) -> None:
    await desk.step("seat", "book", path="ok")
    await desk.begin()
    await desk.disable("unbook")

    with pytest.raises(ApplicationError) as raised:
        await desk.compensate("seat")
    await desk.enable()

    assert raised.value.type == "Refused.disabled"
    assert (await desk.compensate("seat")).status is CallStatus.OK
    assert (await desk.effects())[f"{desk.key('seat')}:undo"]["attempts_used"] == 1


async def test_an_undo_whose_arguments_could_not_be_made_is_a_persons(desk: Desk, service: Service) -> None:
    await desk.step("seat", "book_oddly", path="ok")
    (planned,) = (await desk.begin()).steps

    outcome = await desk.compensate("seat")

    assert (planned.undo, planned.undo_missing) == ("unbook", True)
    assert (outcome.status, outcome.code) == (CallStatus.ERROR, "invalid")
    assert service.effects == {desk.key("seat"): 1}


async def test_the_older_unwinder_undoes_nothing(desk: Desk, service: Service) -> None:
    await desk.step("seat", "book", path="ok")
    await desk.begin("unwind-1")
    older = desk.epoch
    await desk.begin("unwind-2")
    desk.epoch = older

    outcome = await desk.compensate("seat")

    assert (outcome.status, outcome.code) == (CallStatus.CANCELLED, "epoch")
    assert (await desk.begin("unwind-1", epoch=older)).refused_code == "taken"
    assert service.effects == {desk.key("seat"): 1}


async def test_a_step_that_cannot_be_undone_says_why_in_the_plan(desk: Desk) -> None:
    await desk.step("pay", "pay", path="ok")

    (planned,) = (await desk.begin()).steps

    assert (planned.never_undone, planned.undo, planned.undo_missing) == ("payments are final", None, False)


@pytest.mark.parametrize(
    ("says", "state", "undone"), [("landed", EffectState.DONE, True), ("never", EffectState.FAILED, False)]
)
async def test_a_step_in_doubt_is_asked_about_and_never_sent_by_its_unwinder(
    desk: Desk, service: Service, says: str, state: EffectState, undone: bool
) -> None:
    await desk.lose("seat", "book_and_ask")
    await desk.begin()
    service.probe_says = says

    assert await desk.settle("seat", "book_and_ask") is state

    assert not service.effects, "it was asked about, not sent"
    if undone:
        assert (await desk.compensate("seat")).status is CallStatus.OK
    assert await desk.end(SagaState.ABORTED) is SagaState.ABORTED


async def test_a_step_that_its_service_cannot_tell_of_is_unknown_after_some_tries(
    desk: Desk, service: Service
) -> None:
    await desk.lose("seat", "book_and_ask")
    await desk.begin()
    service.probe_says = "perhaps"

    for _ in range(SETTLE_TRIES - 1):
        with pytest.raises(ApplicationError):
            await desk.settle("seat", "book_and_ask")
    assert await desk.settle("seat", "book_and_ask") is EffectState.UNKNOWN

    planned = await desk.planned()
    assert (planned.settle_tried, planned.state) == (SETTLE_TRIES, EffectState.UNKNOWN)
    assert not service.effects


async def test_a_step_in_doubt_is_sent_again_under_its_key_where_it_can_be_undone(
    desk: Desk, service: Service
) -> None:
    await desk.lose("seat", "book")
    await desk.begin()

    assert await desk.settle("seat", "book") is EffectState.DONE

    assert list(service.effects) == [desk.key("seat")]
    assert (await desk.compensate("seat")).status is CallStatus.OK


async def test_what_could_not_be_undone_is_not_sent_again_to_find_out(desk: Desk, service: Service) -> None:
    await desk.lose("pay", "pay")
    await desk.begin()

    assert await desk.settle("pay", "pay") is EffectState.UNKNOWN

    assert not service.effects
    assert not (await desk.planned()).can_settle


async def test_what_nobody_knows_of_is_undone_by_the_key_it_was_sent_with(desk: Desk, service: Service) -> None:
    await desk.lose("seat", "book_blindly", path="a-seat")
    await desk.begin()
    assert await desk.settle("seat", "book_blindly") is EffectState.UNKNOWN
    planned = await desk.planned()
    assert (planned.undo_if_unknown, planned.can_settle) == ("cancel", False)

    outcome = await desk.compensate("seat", "cancel", unknown=True)

    assert outcome.status is CallStatus.OK
    (asked,) = [path for _, path, _ in service.requests]
    assert asked == f"/cancel/{desk.key('seat')}/a-seat"
    assert await desk.end(SagaState.ABORTED) is SagaState.ABORTED


async def test_a_living_attempt_is_waited_for(desk: Desk) -> None:
    effect_id = await desk.lose("seat", "book")
    await desk.owner.execute(
        "UPDATE holdfast.effect SET lease_until = clock_timestamp() + interval '1 min' WHERE effect_id = $1",
        effect_id,
    )
    (planned,) = (await desk.begin()).steps
    assert planned.lease_left is not None
    assert planned.lease_left.total_seconds() > 30

    with pytest.raises(ApplicationError) as raised:
        await desk.settle("seat", "book")

    assert raised.value.type == "EffectBusy"
