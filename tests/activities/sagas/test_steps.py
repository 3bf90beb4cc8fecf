"""Steps of a code-defined saga: once each, whoever asks, and what is refused can be tried another time."""

from __future__ import annotations

from holdfast.facts import Fact, Kind
from holdfast.saga_contracts import MAX_STEP_BYTES, EndSaga
from holdfast.states import CallStatus, SagaState
from holdfast_activities.saga_openings import SagaOpenings
from holdfast_activities.saga_steps import StepExecutions
from tests.activities.sagas.conftest import Desk
from tests.activities.tools.conftest import Service
from tests.ledger.conftest import START


async def test_a_step_happens_once_and_whoever_asks_again_gets_its_result(desk: Desk, service: Service) -> None:
    first = await desk.step("seat", "book", path="ok")
    again = await desk.step("seat", "book", path="ok")

    assert first == again
    assert (first.status, first.result) == (CallStatus.OK, {"done": True})
    assert service.effects == {desk.key("seat"): 1}


async def test_a_step_that_cannot_run_makes_no_row_and_its_facts_are_told(desk: Desk, service: Service) -> None:
    fact = Fact(key="checked", kind=Kind.LIMIT_REACHED, at=START)
    request = desk.request("seat", "book", pth="ok").model_copy(update={"outbox": (fact,)})

    outcome = await desk.run(StepExecutions(desk.executions.surroundings).execute_step, request)

    assert (outcome.status, outcome.code) == (CallStatus.ERROR, "invalid")
    assert outcome.text is not None
    assert "`pth` is no argument" in outcome.text
    assert not service.effects
    assert await desk.effects() == {}
    told = await desk.owner.fetchval("SELECT count(*) FROM holdfast.entry WHERE fact_key = 'checked'")
    assert told == 1


async def test_a_stopped_tool_denies_its_step_and_the_step_can_be_tried_another_time(
    desk: Desk, service: Service
) -> None:
    await desk.disable("book")

    denied = await desk.step("seat", "book", path="ok")
    await desk.enable()

    assert (denied.status, denied.code) == (CallStatus.DENIED, "disabled")
    assert not service.effects
    assert (await desk.step("seat", "book", path="ok")).status is CallStatus.OK


async def test_a_result_too_big_for_history_stays_in_postgres_and_the_step_has_landed(desk: Desk) -> None:
    outcome = await desk.step("look", "look", size=MAX_STEP_BYTES)

    assert (outcome.status, outcome.code, outcome.result) == (CallStatus.OK, "too_big", None)


async def test_a_step_that_is_refused_fails_and_stands_nowhere(desk: Desk) -> None:
    outcome = await desk.step("seat", "book", path="refuse")

    assert (outcome.status, outcome.text) == (CallStatus.ERROR, "no such booking")
    assert (await desk.begin()).steps == ()
    assert await desk.end(SagaState.ABORTED) is SagaState.ABORTED


async def test_nothing_goes_forward_in_a_saga_that_is_being_undone(desk: Desk, service: Service) -> None:
    await desk.begin()

    outcome = await desk.step("seat", "book", path="ok")

    assert (outcome.status, outcome.code) == (CallStatus.CANCELLED, "saga_closed")
    assert not service.effects


async def test_a_lost_step_of_a_saga_that_is_being_undone_is_unknown_to_its_forward_side(desk: Desk) -> None:
    await desk.lose("seat", "book_blindly")
    await desk.begin()

    outcome = await desk.step("seat", "book_blindly", path="ok")

    assert outcome.status is CallStatus.UNKNOWN


async def test_past_its_pivot_a_saga_is_not_unwound(desk: Desk) -> None:
    await desk.step("pay", "pay", pivot=True, path="ok")

    plan = await desk.begin()

    assert plan.refused_code == "pivot"
    assert plan.refused is not None
    assert "past its pivot" in plan.refused
    assert (await desk.open(run_id="run-2")).past_pivot


async def test_a_saga_that_ended_says_how_to_whoever_opens_it_again(desk: Desk) -> None:
    assert desk.plan.saga is not None
    openings = SagaOpenings(ledger=desk.ledger, book=desk.book)
    ending = EndSaga(saga=desk.plan.saga, state=SagaState.COMMITTED, at=START, result={"seat": "12A"})
    assert await desk.run(openings.end_saga, ending) is SagaState.COMMITTED

    again = await desk.open(run_id="run-2", args={"booking": "another"})

    assert (again.state, again.result, again.args) == (SagaState.COMMITTED, {"seat": "12A"}, {"booking": "TRV-1"})
    assert (again.salt, again.catalogue) == (desk.plan.salt, desk.plan.catalogue)


async def test_a_saga_whose_tools_or_body_are_not_those_it_was_opened_with_is_refused(desk: Desk) -> None:
    unknown = await desk.open(tools=("saga_tools:absent",))
    changed = await desk.open(run_id="run-2", source="another")

    assert unknown.refused is not None
    assert "`absent`" in unknown.refused
    assert changed.refused is not None
    assert "new version" in changed.refused
