"""What a body may do and what it may not, whatever it swallows; driven without Temporal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.saga_contracts import StepOutcome
from holdfast.states import CallStatus
from holdfast_sagas import CheckFailed, Saga, SagaMisused, SagaStopped, StepFailed, StepInDoubt, StepOptions, saga
from holdfast_sagas.steps import Step
from holdfast_sagas.stopping import StepCancelled
from tests.sagas.desk_of_one import Answer, Given, Got, look, mail, pay, release, reserve
from tests.waiting import until

NOW = datetime(2030, 1, 1, tzinfo=UTC)
Outcome = StepOutcome | None


class Stage:
    """A driver whose steps end as told, in the order told; the rest land at once."""

    saga_id = "saga-1"
    max_bytes = 200

    def __init__(self, **outcomes: CallStatus) -> None:
        self.outcomes = outcomes
        self.ran: list[Step] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.settled: list[str] = []

    def now(self) -> datetime:
        return NOW

    async def execute(self, step: Step) -> StepOutcome:
        self.ran.append(step)
        await asyncio.sleep(0)  # others may begin
        if step.name in self.gates:
            await self.gates[step.name].wait()
        self.settled.append(step.name)
        status = self.outcomes.get(step.name, CallStatus.OK)
        result = {"said": step.args.get("what", "")} if status is CallStatus.OK else None
        return StepOutcome(status=status, result=result, text=None if result else "told to")


async def unused(s: Saga, given: Given) -> Got:
    return Got()


EVERYTHING = saga("a.saga", "1", steps=(look, reserve, "write_file"), pivot=pay, deferred=mail)(unused)


def begun(stage: Stage | None = None) -> Saga:
    return Saga(EVERYTHING, stage or Stage())


async def test_a_step_returns_what_its_tool_returns() -> None:
    answer = await begun().step("a", reserve, what="seat")
    assert answer == Answer(said="seat")


async def test_a_step_carries_its_json_arguments_and_options() -> None:
    stage = Stage()
    await begun(stage).step("a", reserve, StepOptions(attempts=2, timeout="5s"), what="seat")
    (step,) = stage.ran
    assert (step.args, step.options.attempts, step.options.within) == ({"what": "seat"}, 2, timedelta(seconds=5))


async def test_a_body_may_go_another_way_after_a_clean_failure() -> None:
    s = begun(Stage(a=CallStatus.ERROR))
    with pytest.raises(StepFailed, match="told to"):
        await s.step("a", reserve, what="window")
    await s.step("b", reserve, what="aisle")
    assert s.stopped is None


@pytest.mark.parametrize(
    ("status", "error"), [(CallStatus.UNKNOWN, StepInDoubt), (CallStatus.CANCELLED, StepCancelled)]
)
async def test_a_doubt_cannot_be_swallowed(status: CallStatus, error: type[SagaStopped]) -> None:
    stage = Stage(a=status)
    s = begun(stage)
    with pytest.raises(error):
        await s.step("a", reserve, what="seat")
    with pytest.raises(error):
        await s.step("b", reserve, what="seat")
    assert isinstance(s.stopped, error)
    assert len(stage.ran) == 1


async def test_a_check_that_fails_stops_the_saga() -> None:
    s = begun()
    s.check("one is one", 1 == 1)
    with pytest.raises(CheckFailed, match="the fare covers it"):
        s.check("the fare covers it", False)
    assert isinstance(s.stopped, CheckFailed)


async def test_siblings_are_all_settled_before_one_failure_is_told() -> None:
    stage = Stage(a=CallStatus.ERROR)
    stage.gates["b"] = asyncio.Event()
    s = begun(stage)
    together = asyncio.create_task(s.gather(s.step("a", reserve, what="1"), s.step("b", reserve, what="2")))
    await until(lambda: "a" in stage.settled, "a to be settled")
    await asyncio.sleep(0)
    assert not together.done()
    stage.gates["b"].set()
    with pytest.raises(StepFailed):
        await together
    assert stage.settled == ["a", "b"]


@pytest.mark.parametrize(
    ("ends", "worst"),
    [
        ({"a": CallStatus.ERROR, "b": CallStatus.UNKNOWN}, StepInDoubt),
        ({"a": CallStatus.UNKNOWN, "b": CallStatus.ERROR}, StepInDoubt),
        ({"a": CallStatus.CANCELLED, "b": CallStatus.ERROR}, StepFailed),
        ({"a": CallStatus.DENIED, "b": CallStatus.CANCELLED}, StepFailed),
    ],
)
async def test_the_worst_of_several_is_told(ends: dict[str, CallStatus], worst: type[SagaStopped]) -> None:
    s = begun(Stage(**ends))
    with pytest.raises(worst):
        await s.gather(s.step("a", reserve, what="1"), s.step("b", reserve, what="2"))


async def test_results_of_siblings_come_in_order() -> None:
    s = begun()
    assert await s.gather(s.step("a", look, what="1"), s.step("b", look, what="2")) == [
        Answer(said="1"),
        Answer(said="2"),
    ]


async def test_what_is_deferred_runs_after_all_else_in_order() -> None:
    stage = Stage()
    s = begun(stage)
    s.defer("first", mail, what="1")
    s.defer("second", mail, what="2")
    await s.step("a", reserve, what="seat")
    assert stage.settled == ["a"]
    await s.run_deferred()
    assert stage.settled == ["a", "first", "second"]


async def test_past_the_pivot_whoever_wanted_to_stop_came_too_late() -> None:
    stage = Stage()
    stage.gates["money"] = asyncio.Event()
    s = begun(stage)
    paying = asyncio.create_task(s.pivot("money", pay, what="63.00"))
    await until(lambda: stage.ran, "the pivot to begin")
    s.stop(StepCancelled("aborted by ann"))
    stage.gates["money"].set()
    await paying
    assert s.past_pivot
    assert s.stopped is None


async def test_a_pivot_that_fails_leaves_the_saga_undoable() -> None:
    s = begun(Stage(money=CallStatus.ERROR))
    with pytest.raises(StepFailed):
        await s.pivot("money", pay, what="63.00")
    assert not s.past_pivot


Misuse = Callable[[Saga], Coroutine[Any, Any, Any]]


async def a_tool_of_another_role(s: Saga) -> None:
    await s.step("a", pay, what="1")


async def a_tool_that_is_not_declared(s: Saga) -> None:
    await s.step("a", release, what="1")


async def the_same_name_twice(s: Saga) -> None:
    await s.step("a", reserve, what="1")
    await s.step("a", reserve, what="2")


async def a_name_that_is_none(s: Saga) -> None:
    await s.step("A seat!", reserve, what="1")


async def an_argument_too_many(s: Saga) -> None:
    await s.step("a", reserve, what="1", where="2")


async def an_argument_that_is_no_json(s: Saga) -> None:
    await s.step("a", "write_file", path={1})


async def too_big_an_argument(s: Saga) -> None:
    await s.step("a", reserve, what="x" * 300)


async def a_second_pivot(s: Saga) -> None:
    await s.pivot("a", pay, what="1")
    await s.pivot("b", pay, what="2")


async def a_pivot_beside_a_step(s: Saga) -> None:
    await s.gather(s.step("a", reserve, what="1"), s.pivot("b", pay, what="2"))


async def a_check_after_the_pivot(s: Saga) -> None:
    await s.pivot("a", pay, what="1")
    s.check("too late", True)


async def a_deferred_argument_that_does_not_fit(s: Saga) -> None:
    s.defer("a", mail, whom="ann")


@pytest.mark.parametrize(
    ("misuse", "words"),
    [
        (a_tool_of_another_role, "`pay` is not declared as step"),
        (a_tool_that_is_not_declared, "`release` is not declared as step of the saga; it has `look`, `reserve`"),
        (the_same_name_twice, "has a step of this name"),
        (a_name_that_is_none, "a name is 1 to 64"),
        (an_argument_too_many, "`where`: Extra inputs"),
        (an_argument_that_is_no_json, "is no JSON"),
        (too_big_an_argument, "at most 200 fit"),
        (a_second_pivot, "has a pivot already, `a`"),
        (a_pivot_beside_a_step, "runs alone"),
        (a_check_after_the_pivot, "the pivot `a` is behind"),
        (a_deferred_argument_that_does_not_fit, "`what`: Field required"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_mistake_of_the_author_stops_the_saga_and_says_what_is_wrong(misuse: Misuse, words: str) -> None:
    s = begun()
    with pytest.raises(SagaMisused, match=words):
        await misuse(s)
    assert isinstance(s.stopped, SagaMisused)


async def test_the_time_and_the_id_are_the_runs_own() -> None:
    assert (begun().now, begun().id) == (NOW, "saga-1")
