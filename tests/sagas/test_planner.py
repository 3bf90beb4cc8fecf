"""What an unwind does next: every small plan, and random big ones, against the rules of design section 5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.saga_contracts import StepPlan
from holdfast.states import EffectState, RecoveryClass, SagaState, Tier
from holdfast_sagas.unwinding import (
    SETTLE_TRIES,
    Compensate,
    Finish,
    Move,
    Settle,
    Wait,
    next_move,
    standing,
    undone,
)

DONE, UNKNOWN, FAILED = EffectState.DONE, EffectState.UNKNOWN, EffectState.FAILED
OPEN, CLAIMED, CANCELLED = EffectState.OPEN, EffectState.CLAIMED, EffectState.CANCELLED
ALIVE, OVER = timedelta(seconds=3), timedelta(0)

SHAPES: dict[str, dict[str, Any]] = {
    "done": {"state": DONE, "undo": "u"},
    "undone": {"state": DONE, "undo": "u", "undo_state": DONE},
    "undo under way": {"state": DONE, "undo": "u", "undo_state": CLAIMED},
    "undo failed": {"state": DONE, "undo": "u", "undo_state": FAILED, "undo_said": "too late"},
    "undo unknown": {"state": DONE, "undo": "u", "undo_state": UNKNOWN},
    "undo without arguments": {"state": DONE, "undo": "u", "undo_missing": True},
    "never": {"state": DONE, "never_undone": "payments are final"},
    "undeclared": {"state": DONE},
    "waived": {"state": DONE, "never_undone": "payments are final", "waived": True},
    "failed": {"state": FAILED, "undo": "u"},
    "cancelled": {"state": CANCELLED, "undo": "u"},
    "alive": {"state": CLAIMED, "undo": "u", "lease_left": ALIVE},
    "lost": {"state": CLAIMED, "undo": "u", "lease_left": OVER},
    "doubt": {"state": OPEN, "undo": "u", "doubt": True},
    "unknown": {"state": UNKNOWN, "undo": "u"},
    "unknown, can be asked": {"state": UNKNOWN, "undo": "u", "can_settle": True},
    "unknown, was asked": {"state": UNKNOWN, "undo": "u", "can_settle": True, "settle_tried": SETTLE_TRIES},
    "unknown, cancel if it exists": {"state": UNKNOWN, "undo": "u", "undo_if_unknown": "c"},
    "unknown, cancelled by its key": {"state": UNKNOWN, "undo_if_unknown": "c", "undo_state": DONE},
    "unknown, waived": {"state": UNKNOWN, "undo": "u", "waived": True},
}


def step(number: int, shape: str) -> StepPlan:
    ordered = {"order": number} if SHAPES[shape]["state"] is DONE else {}
    return StepPlan(
        effect_id=f"e{number}",
        call=f"{number}.1",
        tool="tool",
        tier=Tier.REVERSIBLE,
        recovery=RecoveryClass.IDEMPOTENT,
        **ordered,
        **SHAPES[shape],
    )


def plan(*shapes: str) -> list[StepPlan]:
    return [step(number, shape) for number, shape in enumerate(shapes, start=1)]


def every_plan(size: int) -> Iterator[tuple[str, ...]]:
    return product(SHAPES, repeat=size)


def check(steps: Sequence[StepPlan], move: Move) -> None:
    """The rules, each by itself and in other words than the planner's."""
    left = [one for one in steps if not one.waived and one.undo_state is not DONE]
    final = [one for one in left if one.state is DONE and not one.undo and not one.undo_missing]
    alive = [one for one in left if one.state is CLAIMED and one.lease_left and one.lease_left > OVER]
    doubt = [one for one in left if one.state in (UNKNOWN, CLAIMED) or (one.state is OPEN and one.doubt)]
    match move:
        case Compensate(one, undo, unknown):
            assert not alive
            assert not final
            assert all(other.undo_if_unknown for other in doubt), "somebody must say first"
            assert not [other for other in left if other.undo_state in (FAILED, UNKNOWN)]
            assert one in left
            assert one.state is DONE or (one.state is UNKNOWN and unknown)
            assert undo == (one.undo_if_unknown if unknown else one.undo)
            if not unknown:
                assert not doubt
                assert one.order == max(other.order or 0 for other in left if other.state is DONE)
        case Finish(SagaState.ABORTED):
            assert not doubt
            assert not [other for other in left if other.state is DONE]
        case Finish(SagaState.HELD, reason):
            assert reason
            assert final or doubt or [other for other in left if other.undo_state is UNKNOWN]
        case Finish(SagaState.STUCK, reason):
            assert reason
            assert [other for other in left if other.undo_state is FAILED or other.undo_missing]
        case Wait(pause):
            assert alive
            assert pause > OVER
        case Settle(asked):
            assert asked
            assert not alive
            assert not final
            assert {one.effect_id for one in asked} <= {one.effect_id for one in doubt}


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_every_plan_of_up_to_three_steps_keeps_the_rules(size: int) -> None:
    for shapes in every_plan(size):
        steps = plan(*shapes)
        check(steps, next_move(steps))


def carried_out(steps: list[StepPlan], move: Move) -> list[StepPlan]:
    """What the world makes of a move: attempts end, what is asked about lands, undos succeed."""

    def after(one: StepPlan) -> StepPlan:
        if isinstance(move, Wait) and one.state is CLAIMED:
            return one.model_copy(update={"lease_left": OVER})
        if isinstance(move, Settle) and one in move.steps:
            landed = {"state": DONE, "order": 90, "doubt": False} if one.can_settle else {"state": UNKNOWN}
            return one.model_copy(update={**landed, "settle_tried": one.settle_tried + 1})
        if isinstance(move, Compensate) and one is move.step:
            return one.model_copy(update={"undo_state": DONE})
        return one

    return [after(one) for one in steps]


def unwind(steps: list[StepPlan]) -> tuple[Finish, list[str], list[StepPlan]]:
    """Move until the end; returns it, what was undone in order, and the steps then."""
    order: list[str] = []
    for _ in range(10 * len(steps) + 10):
        move = next_move(steps)
        check(steps, move)
        if isinstance(move, Finish):
            return move, order, steps
        if isinstance(move, Compensate):
            order.append(move.step.effect_id)
        steps = carried_out(steps, move)
    raise AssertionError("an unwind ends")


@given(st.lists(st.sampled_from(sorted(SHAPES)), max_size=12))
@settings(deadline=None)
def test_an_unwind_ends_undoes_nothing_twice_and_the_newest_first(shapes: list[str]) -> None:
    steps = plan(*shapes)
    end, order, then = unwind(steps)
    assert len(order) == len(set(order))
    settled = {one.effect_id: one.order for one in steps if one.order is not None}
    known = [settled[one] for one in order if one in settled]
    assert known == sorted(known, reverse=True)
    if end.state is SagaState.ABORTED:
        assert [each for each in standing(then) if "waived" not in each] == []


@given(st.lists(st.sampled_from(sorted({"done", "undone", "failed", "cancelled", "alive"})), max_size=12))
@settings(deadline=None)
def test_where_everything_can_be_undone_nothing_stands(shapes: list[str]) -> None:
    end, order, then = unwind([one.model_copy(update={"can_settle": True}) for one in plan(*shapes)])
    assert end == Finish(SagaState.ABORTED)
    assert len(order) == sum(shape in ("done", "alive") for shape in shapes)
    assert standing(then) == ()


@pytest.mark.parametrize(
    ("shapes", "move"),
    [
        (("done", "done"), "Compensate 2.1"),
        (("done", "undone"), "Compensate 1.1"),
        (("undone", "undone"), "ABORTED"),
        (("done", "failed"), "Compensate 1.1"),
        (("done", "alive"), "Wait"),
        (("done", "lost"), "Settle 2.1"),
        (("done", "doubt", "lost"), "Settle 2.1 3.1"),
        (("done", "unknown"), "HELD"),
        (("done", "unknown, can be asked"), "Settle 2.1"),
        (("done", "unknown, was asked"), "HELD"),
        (("done", "unknown, cancel if it exists"), "Compensate 2.1"),
        (("unknown, cancel if it exists", "done"), "Compensate 1.1"),
        (("done", "unknown, cancelled by its key"), "Compensate 1.1"),
        (("done", "unknown, waived"), "Compensate 1.1"),
        (("done", "never"), "HELD"),
        (("never", "alive"), "HELD"),
        (("done", "undeclared"), "HELD"),
        (("done", "waived"), "Compensate 1.1"),
        (("waived",), "ABORTED"),
        (("done", "undo failed"), "STUCK"),
        (("undo failed", "done"), "STUCK"),
        (("done", "undo unknown"), "HELD"),
        (("done", "undo under way"), "Compensate 2.1"),
        (("done", "undo without arguments"), "STUCK"),
        (("undo without arguments", "done"), "Compensate 2.1"),
    ],
)
def test_the_table_of_tricky_cases(shapes: tuple[str, ...], move: str) -> None:
    match next_move(plan(*shapes)):
        case Compensate(one):
            said = f"Compensate {one.call}"
        case Settle(asked):
            said = " ".join(["Settle", *(one.call for one in asked)])
        case Finish(state):
            said = state.value
        case Wait():
            said = "Wait"
    assert said == move


def test_a_payment_that_is_final_is_named_and_nothing_is_undone() -> None:
    end = next_move(plan("done", "never"))
    assert end == Finish(
        SagaState.HELD,
        "2.1 tool stands and cannot be undone (payments are final): "
        "a person must say whether the rest is undone or kept",
    )


def test_what_was_undone_is_told_newest_first_and_what_stands_oldest_first() -> None:
    steps = plan("done", "undone", "waived", "unknown", "undone", "failed")
    assert undone(steps) == ("5.1 tool", "2.1 tool")
    assert standing(steps) == (
        "1.1 tool",
        "3.1 tool (waived by a person)",
        "4.1 tool (nobody knows whether it happened)",
    )


def test_asking_again_waits_longer_and_then_a_person_is_asked() -> None:
    pauses = []
    for tried in range(SETTLE_TRIES):
        move = next_move([step(1, "unknown, can be asked").model_copy(update={"settle_tried": tried})])
        assert isinstance(move, Settle)
        pauses.append(move.pause)
    assert pauses[0] == OVER
    assert pauses == sorted(pauses)
    assert isinstance(next_move(plan("unknown, was asked")), Finish)
