"""What an unwind does next: a pure function of the plan that was read from Postgres.

Nothing is undone while an attempt of any step may be alive or its outcome can still be found out; then the newest
goes first, one at a time; and the first undo that cannot be relied on stops the rest, since older steps may
depend on newer ones being undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from holdfast.states import EffectState, SagaState

if TYPE_CHECKING:
    from holdfast.saga_contracts import StepPlan

SETTLE_TRIES = 4
"""How often a step in doubt is asked about before a person is."""
LEASE_SKEW = timedelta(milliseconds=250)
"""Beyond the lease that was read, so that the next look finds it over."""
MOST_PAUSE = timedelta(seconds=30)


@dataclass(frozen=True)
class Wait:
    """An attempt is alive: look again after this long."""

    pause: timedelta


@dataclass(frozen=True)
class Settle:
    """Find out what became of these steps, after a pause, then look again."""

    steps: tuple[StepPlan, ...]
    pause: timedelta = timedelta(0)


@dataclass(frozen=True)
class Compensate:
    """Undo this one step. `unknown`: by its `undo_if_unknown`, since nobody knows whether it happened."""

    step: StepPlan
    undo: str
    unknown: bool = False


@dataclass(frozen=True)
class Finish:
    """The unwind ends. `reason` is for a person, empty where nothing is left to do."""

    state: Literal[SagaState.ABORTED, SagaState.HELD, SagaState.STUCK]
    reason: str = ""


Move = Wait | Settle | Compensate | Finish


def next_move(steps: Iterable[StepPlan]) -> Move:
    """Decide. `steps`: every effect of the saga above tier read, as it stands now."""
    open_steps = [step for step in steps if not step.waived and not _is_undone(step)]
    if (final := _cannot_be_undone(open_steps)) is not None:
        return final
    if (pause := _live(open_steps)) is not None:
        return Wait(pause + LEASE_SKEW)
    if doubtful := [step for step in open_steps if _can_be_settled(step)]:
        tried = min(step.settle_tried for step in doubtful)
        return Settle(tuple(doubtful), timedelta(0) if tried == 0 else min(timedelta(seconds=2**tried), MOST_PAUSE))
    for step in open_steps:
        if _is_in_doubt(step) and step.undo_if_unknown is None:
            return Finish(SagaState.HELD, f"nobody knows whether {label(step)} happened: a person must say")
    if (broken := _broken_undo(open_steps)) is not None:
        return broken
    standing = [step for step in open_steps if step.state is EffectState.DONE or _is_in_doubt(step)]
    return _undo_of(newest(standing)) if standing else Finish(SagaState.ABORTED)


def newest(steps: Sequence[StepPlan]) -> StepPlan:
    """By completion. One in doubt has none, and comes before all that have: what depends on it is undone later."""
    return max(enumerate(steps), key=lambda each: (each[1].order is None, each[1].order or 0, each[0]))[1]


def undone(steps: Iterable[StepPlan]) -> tuple[str, ...]:
    """Steps that were undone, newest first."""
    found = [step for step in steps if _is_undone(step)]
    return tuple(label(step) for step in sorted(found, key=lambda step: -(step.order or 0)))


def standing(steps: Iterable[StepPlan]) -> tuple[str, ...]:
    """Steps that stand, or may stand, oldest first."""
    found = [
        step for step in steps if not _is_undone(step) and (step.state is EffectState.DONE or _is_in_doubt(step))
    ]
    return tuple(
        _how_it_stands(step) for step in sorted(found, key=lambda step: (step.order is None, step.order or 0))
    )


def label(step: StepPlan) -> str:
    """`3.1 hold_seat`: the call, or the step of a code-defined saga, and its tool."""
    return f"{step.call} {step.tool}"


def _how_it_stands(step: StepPlan) -> str:
    doubt = " (nobody knows whether it happened)" if _is_in_doubt(step) else ""
    return label(step) + (" (waived by a person)" if step.waived else doubt)


def _is_undone(step: StepPlan) -> bool:
    return step.undo_state is EffectState.DONE


def _is_in_doubt(step: StepPlan) -> bool:
    lost = step.state is EffectState.CLAIMED or (step.state is EffectState.OPEN and step.doubt)
    return lost or step.state is EffectState.UNKNOWN


def _cannot_be_undone(steps: Iterable[StepPlan]) -> Finish | None:
    """A step that stands for good makes undoing the rest a person's decision."""
    for step in steps:
        if step.state is EffectState.DONE and (step.never_undone or not (step.undo or step.undo_missing)):
            why = step.never_undone or "no undo is declared"
            return Finish(
                SagaState.HELD,
                f"{label(step)} stands and cannot be undone ({why}): "
                "a person must say whether the rest is undone or kept",
            )
    return None


def _live(steps: Iterable[StepPlan]) -> timedelta | None:
    """Until the first of the living attempts may be over."""
    leases = [
        step.lease_left for step in steps if step.state is EffectState.CLAIMED and step.lease_left is not None
    ]
    return min((left for left in leases if left > timedelta(0)), default=None)


def _can_be_settled(step: StepPlan) -> bool:
    """One whose attempt was lost is settled once even where nobody can be asked: that makes it UNKNOWN."""
    if not _is_in_doubt(step):
        return False
    if step.undo_state is not None:
        return False  # its undo is on the way: it was in doubt for good
    if step.state is not EffectState.UNKNOWN and step.settle_tried == 0:
        return True
    return step.can_settle and step.settle_tried < SETTLE_TRIES


def _broken_undo(steps: Iterable[StepPlan]) -> Finish | None:
    for step in steps:
        said = f": {step.undo_said}" if step.undo_said else ""
        if step.undo_state is EffectState.UNKNOWN:
            return Finish(SagaState.HELD, f"nobody knows whether {label(step)} was undone{said}")
        if step.undo_state is EffectState.FAILED:
            return Finish(SagaState.STUCK, f"{label(step)} could not be undone{said}")
    return None


def _undo_of(step: StepPlan) -> Compensate | Finish:
    if step.state is not EffectState.DONE:
        assert step.undo_if_unknown is not None, "an unknown step without one is held before this"
        return Compensate(step, step.undo_if_unknown, unknown=True)
    if step.undo_missing or step.undo is None:
        return Finish(
            SagaState.STUCK, f"the arguments that undo {label(step)} could not be made: a person must give them"
        )
    return Compensate(step, step.undo)
