"""Sagas as a state machine: a forward side, unwinders and people, each of whom may stop or come late at any point.

Hypothesis writes the stories of random sagas; what stands at the service is kept beside the ledger and judges it.
Time passes in the database alone: an attempt whose lease is over sends nothing any more, and may still report.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from holdfast import ids
from holdfast.catalogue import AgentSpec, Catalogue, ToolCard
from holdfast.saga_contracts import StepPlan
from holdfast.states import EffectState, RecoveryClass, SagaState, Tier
from holdfast_activities.settle_effect import can_tell
from holdfast_activities.unwinding import planned
from holdfast_ledger.records import Claim, Granted, Record, Recorded, Resolution, Undo
from holdfast_ledger.saga_records import MoveSaga, PlannedRow, Resolving, SagaResolution
from holdfast_ledger.sagas import undo_id
from holdfast_ledger.verify import verify_session
from holdfast_sagas import unwinding
from holdfast_sagas.unwinding import Compensate, Finish, Settle, Wait
from tests.ledger.saga_story import opening
from tests.protocol.conftest import Stage

MOST_STEPS = 4
ENDED = (SagaState.COMMITTED, SagaState.ABORTED)
SALT = b"salt"


def _card(name: str, recovery: RecoveryClass, **changes: Any) -> ToolCard:
    return ToolCard(
        name=name,
        version="1",
        description=name,
        input_schema={},
        tier=Tier.IRREVERSIBLE,
        recovery=recovery,
        key_ttl=timedelta(days=1) if recovery is RecoveryClass.IDEMPOTENT else None,
        timeout=timedelta(seconds=10),
        attempts=3,
        result_cap=1000,
        **changes,
    )


def _catalogue() -> Catalogue:
    idempotent = RecoveryClass.IDEMPOTENT
    tools = (
        _card("keyed", idempotent, undo="undo"),
        _card("asked", RecoveryClass.PROBE, undo="undo"),
        _card("blind", RecoveryClass.OPERATOR, undo="undo"),
        _card("found", RecoveryClass.OPERATOR, undo="undo", undo_if_unknown="cancel"),
        _card("final", idempotent, never_undone="payments are final"),
    )
    return Catalogue(
        agent=AgentSpec(name="@saga/random"),
        tools=tools,
        compensations=(_card("undo", idempotent), _card("cancel", idempotent)),
    )


CATALOGUE = _catalogue()


@dataclass
class Attempt:
    """One worker's attempt at a step. `fresh`: its lease has not run out, so it may send."""

    claim: Claim
    token: int
    fresh: bool = True
    sent: bool = False


@dataclass
class Unwinder:
    """One run, with the plan as it last saw it: it may act on that much later."""

    run: str
    epoch: int
    plan: dict[str, StepPlan]


@dataclass
class World:
    """A saga, and what stands at its service: steps that `landed`, and by step and undo the keys of its undoing."""

    stage: Stage
    catalogue: Catalogue = CATALOGUE
    id: str = field(default_factory=lambda: f"saga-{secrets.token_hex(6)}")
    tools: dict[str, str] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    unwinders: list[Unwinder] = field(default_factory=list)
    landed: set[str] = field(default_factory=set)
    undone: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    async def open(self) -> None:
        body = self.catalogue.model_dump_json().encode()
        made = opening(self.id, name=self.id, catalogue=body, catalogue_digest=ids.digest(body))
        assert (await self.stage.ledger.sagas.open(made)).code is None

    @property
    def standing(self) -> set[str]:
        return self.landed - {step for step, _ in self.undone}

    def effect(self, step: str) -> str:
        return ids.effect_id(self.id, ids.step_path(step), "")

    async def state(self) -> SagaState:
        return (await self.stage.ledger.sagas.row(self.id)).state

    async def plan(self) -> dict[str, StepPlan]:
        steps = await self.stage.ledger.sagas.steps(self.id, self.id)
        return {step.call: planned(step, self.catalogue) for step in steps}

    # The forward side.

    async def begin_step(self, tool: str, *, pivot: bool) -> None:
        step = f"step-{len(self.tools)}"
        card = self.catalogue.card(tool)
        assert card is not None
        self.tools[step] = tool
        row = PlannedRow(tool_version="1", args=b"{}", salt=SALT, pivot=pivot)
        claim = replace(self._claim(step, card, 1), planned=row, attempts=3)
        granted = await self.stage.ledger.claim(claim)
        if isinstance(granted, Granted):
            self.attempts.append(Attempt(claim, granted.token))

    def send(self, attempt: Attempt) -> None:
        if attempt.fresh and not attempt.sent:
            attempt.sent = True
            self.landed.add(str(attempt.claim.call))

    async def report(self, attempt: Attempt) -> Recorded:
        if attempt.sent:
            return await self.record(attempt.claim, attempt.token, EffectState.DONE)
        return await self.record(attempt.claim, attempt.token, EffectState.FAILED)

    async def record(self, claim: Claim, token: int, state: EffectState, **changes: Any) -> Recorded:
        undoable = claim.kind == "call" and claim.tool != "final" and state is EffectState.DONE
        record = Record(
            effect_id=claim.effect_id,
            session_id=self.id,
            token=token,
            state=state,
            outcome={"status": "ok" if state is EffectState.DONE else "error"},
            undo=Undo(tool="undo", version="1", args=b"{}") if undoable else None,
        )
        return await self.stage.ledger.record(replace(record, **changes))

    async def expire(self) -> None:
        for attempt in self.attempts:
            attempt.fresh = False
        await self.stage.owner.execute(
            """UPDATE holdfast.effect SET lease_until = clock_timestamp() - interval '1 second'
            WHERE saga_id = $1 AND state = 'CLAIMED'""",
            self.id,
        )

    async def commit(self) -> None:
        await self.stage.ledger.sagas.move(
            MoveSaga(session_id=self.id, saga_id=self.id, epoch=1, state=SagaState.COMMITTED)
        )

    # Unwinders.

    async def begin(self, run: str) -> None:
        began = await self.stage.ledger.sagas.begin_unwind(self.id, self.id, unwinder=run)
        if began.code is None:
            self.unwinders.append(Unwinder(run, began.epoch, await self.plan()))

    async def look(self, unwinder: Unwinder) -> bool:
        """Read the plan again; False where the saga is not this unwinder's any more."""
        looked = await self.stage.ledger.sagas.begin_unwind(
            self.id, self.id, unwinder=unwinder.run, epoch=unwinder.epoch
        )
        unwinder.plan = await self.plan()
        return looked.code is None

    async def move(self, unwinder: Unwinder, crash: str | None, ends: EffectState) -> bool:
        """The unwinder's next move by the real planner, which it may not live to finish. False: it is done."""
        match unwinding.next_move(unwinder.plan.values()):
            case Wait():
                return True
            case Settle(steps):
                for step in steps:
                    await self._settle(step, unwinder.epoch, crash)
                return crash is None
            case Compensate(step, _, unknown):
                await self._undo(step, unwinder.epoch, crash, ends, unknown=unknown)
                return crash is None
            case Finish(state, reason):
                ended = await self.stage.ledger.sagas.end_unwind(
                    self.id, self.id, epoch=unwinder.epoch, state=state, reason=reason
                )
                return ended.state is SagaState.UNWINDING

    async def _settle(self, step: StepPlan, epoch: int, crash: str | None) -> None:
        card = self.catalogue.card(step.tool)
        assert card is not None
        tries = unwinding.SETTLE_TRIES if can_tell(card) else 0
        claim = replace(self._claim(step.call, card, epoch), settle_tries=tries)
        granted = await self.stage.ledger.claim(claim)
        if not isinstance(granted, Granted) or crash == "after claim":
            return
        if not granted.probe:
            self.landed.add(step.call)  # sent again under its key
        happened = step.call in self.landed
        if crash != "after effect":
            state = EffectState.DONE if happened else EffectState.FAILED
            await self.record(claim, granted.token, state, final=True)

    async def _undo(
        self, step: StepPlan, epoch: int, crash: str | None, ends: EffectState, *, unknown: bool
    ) -> None:
        card = self.catalogue.compensation("cancel" if unknown else "undo")
        assert card is not None
        row = PlannedRow(tool_version="1", args=b"{}", salt=SALT, undo_of=step.effect_id, unknown=unknown)
        claim = replace(
            self._claim(step.call, card, epoch),
            effect_id=undo_id(step.effect_id),
            kind="undo",
            fingerprint=ids.salted_digest(SALT, b"cancel" if unknown else b"undo"),
            planned=row,
            attempts=20,
        )
        granted = await self.stage.ledger.claim(claim)
        if not isinstance(granted, Granted) or crash == "after claim":
            return
        forward = await self.stage.ledger.sagas.arguments(step.effect_id)
        if forward.state is not (EffectState.UNKNOWN if unknown else EffectState.DONE):
            self.wrong.append(f"{step.call} was undone while it was {forward.state}")
        if ends is EffectState.DONE and step.call in self.landed:
            key = ids.idempotency_key(claim.effect_id, granted.keys_refused)
            self.undone.setdefault((step.call, card.name), set()).add(key)
        if crash != "after effect":
            await self.record(claim, granted.token, ends)

    def _claim(self, step: str, card: ToolCard, epoch: int) -> Claim:
        return Claim(
            effect_id=self.effect(step),
            session_id=self.id,
            kind="call",
            turn=0,
            call=step,
            tool=card.name,
            tier=card.tier,
            recovery=card.recovery,
            key_ttl=card.key_ttl,
            fingerprint=ids.salted_digest(SALT, step.encode()),
            saga_id=self.id,
            saga_epoch=epoch,
            request=0,
            attempts=0,
            lease=self.stage.executions.surroundings.lease,
            worker="worker-1",
        )

    # People, who look at the service before they say anything.

    async def settle_doubts(self) -> None:
        for step, seen in (await self.plan()).items():
            if seen.state is EffectState.DONE:
                continue  # of the others the ledger takes a word only where nobody else can tell
            happened = step in self.landed
            await self.stage.ledger.resolve(
                Resolution(
                    id=secrets.token_hex(4),
                    effect_id=seen.effect_id,
                    session_id=self.id,
                    state=EffectState.DONE if happened else EffectState.FAILED,
                    by="bo",
                    reason="looked",
                    outcome={"status": "ok"},
                    undo=Undo(tool="undo", version="1", args=b"{}") if happened and seen.undo else None,
                )
            )

    async def resolve(self, what: Resolving) -> None:
        waive = [seen.effect_id for seen in (await self.plan()).values() if seen.never_undone]
        await self.stage.ledger.sagas.resolve(
            SagaResolution(
                id=secrets.token_hex(4),
                session_id=self.id,
                saga_id=self.id,
                what=what,
                by="bo",
                reason="it is right",
                waive=tuple(waive) if what == "unwind" else (),
            )
        )


class RandomSaga(RuleBasedStateMachine):
    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.world = World(stage)
        self.stage = stage
        self.past_pivot = False
        self.ended: SagaState | None = None
        stage.run(self.world.open())

    @precondition(lambda self: len(self.world.tools) < MOST_STEPS)
    @rule(
        tool=st.sampled_from(("keyed", "asked", "blind", "found", "final")),
        pivot=st.booleans(),
        at_once=st.booleans(),
    )
    def begin_step(self, tool: str, pivot: bool, at_once: bool) -> None:
        before = len(self.world.attempts)
        state = self.stage.run(self.world.state())
        self.stage.run(self.world.begin_step(tool, pivot=pivot and tool == "final"))
        granted = len(self.world.attempts) > before
        assert not granted or state in (SagaState.OPEN, SagaState.FORWARD_PENDING)
        if granted and at_once:
            self.go_on(before, "send and report")

    @precondition(lambda self: self.world.attempts)
    @rule(number=st.integers(0, 9), how=st.sampled_from(("send", "send and report", "report", "die")))
    def go_on(self, number: int, how: str) -> None:
        attempts = self.world.attempts
        attempt = attempts[number % len(attempts)]
        if how.startswith("send"):
            self.world.send(attempt)
        if how != "send":
            attempts.remove(attempt)
        if how.endswith("report"):
            self.stage.run(self.world.report(attempt))

    @rule()
    def outlive_the_leases(self) -> None:
        self.stage.run(self.world.expire())

    @precondition(lambda self: len(self.world.tools) > 1)
    @rule(run=st.sampled_from(("one", "two", "three")))
    def begin_to_unwind(self, run: str) -> None:
        self.stage.run(self.world.begin(run))

    @precondition(lambda self: self.world.unwinders)
    @rule(
        number=st.integers(0, 2),
        crash=st.sampled_from((None, None, "after claim", "after effect")),
        ends=st.sampled_from((EffectState.DONE, EffectState.DONE, EffectState.FAILED)),
    )
    def unwind(self, number: int, crash: str | None, ends: EffectState) -> None:
        unwinders = self.world.unwinders
        unwinder = unwinders[number % len(unwinders)]
        if not self.stage.run(self.world.move(unwinder, crash, ends)):
            unwinders.remove(unwinder)

    @precondition(lambda self: self.world.unwinders)
    @rule(number=st.integers(0, 2))
    def look_again(self, number: int) -> None:
        unwinders = self.world.unwinders
        unwinder = unwinders[number % len(unwinders)]
        if not self.stage.run(self.world.look(unwinder)):
            unwinders.remove(unwinder)

    @precondition(lambda self: self.world.unwinders)
    @rule(what=st.sampled_from(("look", "retry", "unwind", "keep", "abort")))
    def decide(self, what: str) -> None:
        self.stage.run(self.world.settle_doubts() if what == "look" else self.world.resolve(what))  # type: ignore[arg-type]  # the words of `Resolving`

    @precondition(lambda self: len(self.world.tools) > 1)
    @rule(really=st.sampled_from((False,) * 4 + (True,)))
    def commit(self, really: bool) -> None:
        if really:  # else most stories would end here
            self.stage.run(self.world.commit())

    @invariant()
    def the_ledger_does_not_lie(self) -> None:
        self.stage.run(self._check())

    def teardown(self) -> None:
        self.stage.run(self._come_to_an_end())

    async def _check(self) -> None:
        assert not self.world.wrong, self.world.wrong
        assert all(len(keys) == 1 for keys in self.world.undone.values()), "undone twice"
        row = await self.stage.ledger.sagas.row(self.world.id)
        if self.past_pivot:
            assert row.past_pivot
            assert row.state is not SagaState.UNWINDING, "past its pivot it is not undone"
        self.past_pivot = row.past_pivot
        if self.ended is SagaState.COMMITTED:
            assert row.state is SagaState.COMMITTED
        self.ended = row.state if row.state in ENDED else None
        if row.state is SagaState.ABORTED:
            assert self.world.standing <= await self._waived(), f"{self.world.standing} stand, and it is ABORTED"

    async def _waived(self) -> set[str]:
        rows = await self.stage.owner.fetch(
            "SELECT call FROM holdfast.effect WHERE saga_id = $1 AND waived IS NOT NULL", self.world.id
        )
        return {row["call"] for row in rows}

    async def _come_to_an_end(self) -> None:
        """Whatever the story: when everybody does their part, an unwind that began comes to an end."""
        world = self.world
        for number in range(40):
            state = await world.state()
            if state in ENDED or state is SagaState.OPEN:
                break
            await world.expire()
            await world.settle_doubts()
            if state is SagaState.STUCK:
                await world.resolve("retry")
            elif state is SagaState.HELD:
                await world.resolve("unwind" if not self.past_pivot else "keep")
            await world.begin(f"last-{number}")
            for moves in range(100):
                if not (world.unwinders and await world.move(world.unwinders[-1], None, EffectState.DONE)):
                    break
                await world.expire()
                if not await world.look(world.unwinders[-1]):
                    break
                assert moves < 60, f"it goes in circles: {await world.plan()}"
        else:
            raise AssertionError(f"it never ends: {state}, {await world.plan()}")
        while world.attempts:  # whoever was asleep wakes up
            await world.report(world.attempts.pop())
        await self._check()
        assert (await verify_session(self.stage.ledger.database, world.id)).ok


@pytest.mark.timeout(600)  # the long profile, on a busy machine
def test_whatever_happens_an_aborted_saga_leaves_nothing_standing(
    stage: Stage, request: pytest.FixtureRequest
) -> None:
    profile = settings.get_profile(request.config.getoption("--hypothesis-profile") or "suite")
    run_state_machine_as_test(
        lambda: RandomSaga(stage),  # type: ignore  # Hypothesis types it for a class alone
        settings=settings(profile, max_examples=profile.max_examples // 2),
    )
