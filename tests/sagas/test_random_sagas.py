"""Random sagas in a world that lies: steps fail, land unseen or leave doubt, alone and in groups, before and after
the pivot. However one ends, the world agrees with what it says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.saga_contracts import StepOutcome, StepPlan
from holdfast.states import CallStatus, EffectState, RecoveryClass, SagaState, Tier
from holdfast_sagas import Saga, SagaStopped, StepFailed, saga
from holdfast_sagas.steps import Step
from holdfast_sagas.unwinding import Compensate, Finish, Settle, next_move
from tests.sagas.desk_of_one import Given, Got, mail, pay, reserve

Fate = Literal["lands", "fails", "unseen, tells later", "unseen, tells never", "never sent, tells never"]
UNDO_FATES = ("works", "works", "works", "refused", "unknown")


@dataclass(frozen=True)
class Act:
    """One thing that a body does; a step with `alternative` goes on after a clean failure."""

    what: Literal["step", "group", "check", "pivot", "defer"]
    fates: tuple[Fate, ...] = ("lands",)
    alternative: bool = False


@dataclass
class World:
    """What really stands, and what the ledger believes; the driver of a body."""

    fates: dict[str, Fate]
    undo_fates: dict[str, str]
    stands: set[str] = field(default_factory=set)
    order: list[str] = field(default_factory=list)
    """Of completion, as the ledger knows it."""
    believed: dict[str, EffectState] = field(default_factory=dict)
    final: set[str] = field(default_factory=set)
    undos: list[str] = field(default_factory=list)
    saga_id = "saga-1"
    max_bytes = 1000

    def now(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC)

    async def execute(self, step: Step) -> StepOutcome:
        await asyncio.sleep(0)
        fate = self.fates[step.name]
        if step.tool != "reserve":
            self.final.add(step.name)
        if fate in ("lands", "unseen, tells later", "unseen, tells never"):
            self.stands.add(step.name)
        if fate == "lands":
            self.order.append(step.name)
            self.believed[step.name] = EffectState.DONE
            return StepOutcome(status=CallStatus.OK, result={"said": "yes"})
        if fate == "fails":
            self.believed[step.name] = EffectState.FAILED
            return StepOutcome(status=CallStatus.ERROR, text="no")
        self.believed[step.name] = EffectState.UNKNOWN
        return StepOutcome(status=CallStatus.UNKNOWN, text="who knows")

    def plan(self, undone: dict[str, EffectState], tried: dict[str, int]) -> list[StepPlan]:
        return [
            StepPlan(
                effect_id=name,
                call=name,
                tool="tool",
                tier=Tier.REVERSIBLE,
                recovery=RecoveryClass.PROBE,
                state=state,
                order=self.order.index(name) + 1 if name in self.order else None,
                undo=None if name in self.final else "undo",
                never_undone="it is final" if name in self.final else None,
                can_settle=self.fates[name] == "unseen, tells later",
                settle_tried=tried.get(name, 0),
                undo_state=undone.get(name),
            )
            for name, state in self.believed.items()
        ]

    def settle(self, name: str) -> None:
        if self.fates[name] == "unseen, tells later":
            self.believed[name] = EffectState.DONE
            self.order.append(name)

    def undo(self, name: str) -> EffectState:
        assert name in self.stands, "only what stands is undone"
        self.undos.append(name)
        fate = self.undo_fates.get(name, "works")
        if fate == "works":
            self.stands.discard(name)
        return {"works": EffectState.DONE, "refused": EffectState.FAILED}.get(fate, EffectState.UNKNOWN)


def unwind(world: World) -> Finish:
    undone: dict[str, EffectState] = {}
    tried: dict[str, int] = {}
    while True:
        move = next_move(world.plan(undone, tried))
        match move:
            case Finish():
                return move
            case Settle(steps):
                for step in steps:
                    tried[step.call] = tried.get(step.call, 0) + 1
                    world.settle(step.call)
            case Compensate(step):
                assert step.call not in undone
                undone[step.call] = world.undo(step.call)


async def unused(s: Saga, given: Given) -> Got:
    return Got()


DEFINITION = saga("a.saga", "1", steps=reserve, pivot=pay, deferred=mail)(unused)


async def perform(s: Saga, acts: Sequence[Act], names: list[list[str]]) -> None:
    for act, (first, *rest) in zip(acts, names, strict=True):
        match act.what:
            case "step":
                try:
                    await s.step(first, reserve, what="x")
                except StepFailed:
                    if not act.alternative:
                        raise
            case "group":
                await s.gather(*(s.step(name, reserve, what="x") for name in (first, *rest)))
            case "check":
                s.check("luck", act.fates[0] == "lands")
            case "pivot":
                await s.pivot(first, pay, what="x")
            case "defer":
                s.defer(first, mail, what="x")


FATES = st.sampled_from(
    ["lands", "lands", "lands", "fails", "unseen, tells later", "unseen, tells never", "never sent, tells never"]
)
BEFORE = st.builds(
    Act,
    st.sampled_from(["step", "step", "group", "check", "defer"]),
    st.lists(FATES, min_size=1, max_size=3).map(tuple),
    st.booleans(),
)
AFTER = BEFORE.filter(lambda act: act.what != "check")
PIVOT = st.builds(Act, st.just("pivot"), st.lists(FATES, min_size=1, max_size=1).map(tuple))


@st.composite
def sagas(draw: st.DrawFn) -> list[Act]:
    acts: list[Act] = draw(st.lists(BEFORE, max_size=6))
    if draw(st.booleans()):
        acts += [draw(PIVOT), *draw(st.lists(AFTER, max_size=3))]
    return acts


@given(sagas(), st.lists(st.sampled_from(UNDO_FATES), min_size=1, max_size=20))
@settings(deadline=None, max_examples=150)
def test_however_it_ends_the_world_agrees(acts: list[Act], undo_fates: list[str]) -> None:
    names = [
        [f"a{i}-{j}" for j in range(len(act.fates) if act.what == "group" else 1)] for i, act in enumerate(acts)
    ]
    fates = {name: act.fates[j] for act, several in zip(acts, names, strict=True) for j, name in enumerate(several)}
    undos = {name: undo_fates[i % len(undo_fates)] for i, name in enumerate(fates)}
    world = World(fates, undos)
    asyncio.run(run(world, acts, names))


async def run(world: World, acts: Sequence[Act], names: list[list[str]]) -> None:
    s = Saga(DEFINITION, world)

    async def part(work: Any) -> None:
        try:
            await work
        except SagaStopped as stopped:
            s.stop(stopped)

    await part(perform(s, acts, names))
    deferred = {step.name for step in s.deferred}
    if s.stopped is None:
        assert not world.stands & deferred, "what is deferred waits"
        s.past_pivot = True
        await part(s.run_deferred())
    if s.stopped is None:
        assert set(world.believed.values()) <= {EffectState.DONE, EffectState.FAILED}
        assert deferred <= world.stands
        return
    if s.past_pivot:
        assert world.undos == []
        return
    assert not world.stands & deferred
    end = unwind(world)
    assert len(world.undos) == len(set(world.undos))
    doubt = {name for name, state in world.believed.items() if state is EffectState.UNKNOWN}
    known = [world.order.index(name) for name in world.undos]
    assert known == sorted(known, reverse=True), "the newest first"
    match end.state:
        case SagaState.ABORTED:
            assert world.stands == set()
            assert not doubt
        case SagaState.HELD:
            assert doubt or "was undone" in end.reason or "cannot be undone" in end.reason
        case SagaState.STUCK:
            assert world.undos
            assert world.stands
