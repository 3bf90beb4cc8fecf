"""The effect protocol as a state machine: any order of crashes, stalls, resets, cancels and people's answers.

Hypothesis writes the stories; the service's own count judges them. Time passes in the database and on a process's
monotonic clock, never by waiting.
"""

from __future__ import annotations

import asyncpg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from temporalio.activity import ActivityCancellationDetails

from holdfast.contracts import CallOutcome
from holdfast.states import CallStatus, EffectState, RecoveryClass
from tests.protocol.conftest import CLASSES, PROMISED, Scene, Stage
from tests.protocol.simulated import (
    AFTER_CLAIM,
    AFTER_EFFECT,
    BEFORE_CLAIM,
    BEFORE_EFFECT,
    BEFORE_RECORD,
    STEPS,
    Mood,
    Process,
)

SETTLED = ("DONE", "FAILED", "UNKNOWN", "CANCELLED")
FINAL = ("DONE", "FAILED")
STALLS = (BEFORE_CLAIM, AFTER_CLAIM, BEFORE_EFFECT, AFTER_EFFECT, BEFORE_RECORD)
MOODS: tuple[Mood, ...] = ("well", "refuses", "away", "breaks after it committed")
STOPS = (
    ActivityCancellationDetails(cancel_requested=True),
    ActivityCancellationDetails(paused=True),
    ActivityCancellationDetails(reset=True),
    ActivityCancellationDetails(worker_shutdown=True),
)
MOST_STALLED = 3

classes = st.sampled_from(CLASSES)
attempts = st.sampled_from((1, 2, 7))  # what Temporal counts; a reset sets it back


class Protocol(RuleBasedStateMachine):
    """`stalled` holds processes that are alive and do not know what became of their effect meanwhile."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.scene: Scene = stage.run(stage.scene())
        self.stalled: list[tuple[RecoveryClass, Process, int | None]] = []
        self.disabled: set[RecoveryClass] = set()
        self.closed = False
        self.allowed = dict.fromkeys(CLASSES, 1)
        self.told_by_a_person: set[RecoveryClass] = set()
        self.seen = dict.fromkeys(CLASSES, "OPEN")
        self.resolutions = 0

    # What Temporal and the workers do.

    @rule(recovery=classes, attempt=attempts, step=st.none() | st.sampled_from(STEPS))
    def run(self, recovery: RecoveryClass, attempt: int, step: str | None) -> None:
        self.stage.run(self._run(recovery, attempt, crash_at=step))

    @precondition(lambda self: len(self.stalled) < MOST_STALLED)
    @rule(recovery=classes, attempt=attempts, step=st.sampled_from(STALLS))
    def stall(self, recovery: RecoveryClass, attempt: int, step: str) -> None:
        if recovery is RecoveryClass.TRANSACTIONAL and step == BEFORE_RECORD:
            return  # it holds the row's lock, so that nobody else could go on
        self.stage.run(self._run(recovery, attempt, stall_at=step))

    @precondition(lambda self: self.stalled)
    @rule(number=st.integers(0, MOST_STALLED - 1), stop=st.none() | st.sampled_from(STOPS))
    def wake(self, number: int, stop: ActivityCancellationDetails | None) -> None:
        self.stage.run(self._wake(*self.stalled.pop(number % len(self.stalled)), stop))

    @rule(recovery=classes)
    def outlive_the_lease(self, recovery: RecoveryClass) -> None:
        self.stage.run(self.scene.expire(recovery))

    @precondition(lambda self: all(each is not RecoveryClass.IDEMPOTENT for each, _, _ in self.stalled))
    @rule()
    def outlive_the_key(self) -> None:
        self.stage.run(self.scene.outlive_the_key(RecoveryClass.IDEMPOTENT))

    # What the world and people do.

    @rule(mood=st.sampled_from(MOODS))
    def change_the_service(self, mood: Mood) -> None:
        self.scene.service.mood = mood

    @rule(recovery=classes)
    def disable(self, recovery: RecoveryClass) -> None:
        self.disabled.add(recovery)
        self.stage.run(self.scene.disable(recovery))

    @precondition(lambda self: self.disabled)
    @rule()
    def enable(self) -> None:
        self.disabled.clear()
        self.stage.run(self.scene.enable_all())

    @rule(recovery=classes)
    def cancel(self, recovery: RecoveryClass) -> None:
        self.stage.run(self.scene.cancel_call(recovery))

    @precondition(lambda self: not self.closed)
    @rule(how=st.sampled_from(("close_request", "raise_epoch", "no", "no", "no", "no")))
    def end_the_request(self, how: str) -> None:
        if how != "no":  # else most stories would end here
            self.closed = True
            self.stage.run(getattr(self.scene, how)())

    @rule(recovery=classes, state=st.sampled_from((EffectState.DONE, EffectState.FAILED, EffectState.OPEN)))
    def resolve(self, recovery: RecoveryClass, state: EffectState) -> None:
        self.stage.run(self._resolve(recovery, state))

    # What must hold.

    @invariant()
    def no_effect_is_doubled_and_no_state_is_a_lie(self) -> None:
        self.stage.run(self._check())

    def teardown(self) -> None:
        try:
            self.stage.run(self._settle_all())
        finally:
            self.stage.run(self.scene.end())

    async def _run(
        self, recovery: RecoveryClass, attempt: int, *, crash_at: str | None = None, stall_at: str | None = None
    ) -> None:
        before = await self._row(recovery)
        process, outcome = await self.scene.run(recovery, attempt=attempt, crash_at=crash_at, stall_at=stall_at)
        after = await self._row(recovery)
        if process.stalled.is_set():
            self.stalled.append((recovery, process, None if stall_at == BEFORE_CLAIM else after["token"]))
        if not self._may_send(recovery, before):
            assert process.sent == 0, f"sent although {before['state']}"
        if before["state"] in SETTLED:
            assert _standing(after) == _standing(before)
            assert outcome is None or isinstance(outcome, CallOutcome)
        if isinstance(outcome, CallOutcome) and outcome.status is CallStatus.UNKNOWN:
            assert after["state"] == "UNKNOWN", "nobody could settle what it calls unknown"

    def _may_send(self, recovery: RecoveryClass, row: asyncpg.Record) -> bool:
        """Whether a new attempt that finds this row may dispatch."""
        lost = row["state"] == "CLAIMED" or row["doubt"]
        if row["state"] in SETTLED or self.closed or recovery in self.disabled:
            return False
        if row["live"] and recovery is not RecoveryClass.RETRY:
            return False
        return not (lost and recovery is RecoveryClass.OPERATOR)

    async def _wake(
        self, recovery: RecoveryClass, process: Process, token: int | None, stop: ActivityCancellationDetails | None
    ) -> None:
        before, sent = await self._row(recovery), process.sent
        if stop is not None:
            process.cancel(stop)
        await process.resume()
        after = await self._row(recovery)
        if process.stall_at in (BEFORE_CLAIM, AFTER_CLAIM):
            fenced_anew = after["keys_refused"] > before["keys_refused"]  # by a probe's final no
            assert process.sent == 0 or fenced_anew, "its claim was a minute old when it dispatched"
            assert process.sent == 0 or recovery not in self.disabled, "its tool was disabled meanwhile"
        if token is None:
            return
        if token != before["token"] or before["state"] in (*FINAL, "UNKNOWN"):
            assert _standing(after) == _standing(before), "a stale token changed something"
        if process.sent > sent and after["token"] == token and before["state"] == "CANCELLED":
            assert after["state"] != "OPEN"

    async def _resolve(self, recovery: RecoveryClass, state: EffectState) -> None:
        before = await self._row(recovery)
        self.resolutions += 1
        recorded = await self.scene.resolve(recovery, state, resolution=f"r{self.resolutions}")
        if before["state"] != "UNKNOWN":
            assert not recorded.accepted
            assert _standing(await self._row(recovery)) == _standing(before)
        if recorded.accepted:
            self.told_by_a_person.add(recovery)
            self.allowed[recovery] += state is EffectState.OPEN
            self.seen[recovery] = state.value

    async def _check(self) -> None:
        for recovery in CLASSES:
            state, happened = await self.scene.state(recovery), await self.scene.happened(recovery)
            seen, self.seen[recovery] = self.seen[recovery], state
            assert seen not in (*FINAL, "UNKNOWN") or state == seen, f"{seen} became {state} by itself"
            assert seen != "CANCELLED" or state in ("CANCELLED", "DONE")
            if recovery not in PROMISED:
                continue
            assert happened <= self.allowed[recovery], f"{recovery}: happened {happened} times"
            if recovery in self.told_by_a_person:
                continue
            assert state != "DONE" or happened == 1, "DONE, and it never happened"
            assert state not in ("FAILED", "CANCELLED") or happened == 0, f"{state}, and it happened"

    async def _settle_all(self) -> None:
        """Once the world is well again, every effect comes to an end, whatever its story."""
        self.scene.service.mood = "well"
        await self.scene.enable_all()
        while self.stalled:
            await self._wake(*self.stalled.pop(), None)
        for recovery in CLASSES:
            outcome = await self.scene.settle(recovery)
            row = await self._row(recovery)
            assert row["state"] in SETTLED or self.closed
            assert outcome.status is not CallStatus.OK or row["state"] == "DONE"
        await self._check()

    async def _row(self, recovery: RecoveryClass) -> asyncpg.Record:
        row = await self.scene.conversation.owner.fetchrow(
            """SELECT state, token, outcome, result, doubt, attempts_used, keys_refused,
                   lease_until > clock_timestamp() AS live
            FROM holdfast.effect WHERE effect_id = $1""",
            self.scene.calls[recovery].effect_id,
        )
        assert row is not None
        return row


def _standing(row: asyncpg.Record) -> tuple[object, ...]:
    return row["state"], row["token"], row["outcome"], row["result"]


@pytest.mark.timeout(600)  # the long profile, on a busy machine
def test_whatever_happens_no_effect_is_doubled_and_no_doubt_is_lost(
    stage: Stage, request: pytest.FixtureRequest
) -> None:
    profile = settings.get_profile(request.config.getoption("--hypothesis-profile") or "suite")
    run_state_machine_as_test(
        lambda: Protocol(stage),  # type: ignore  # Hypothesis types it for a class alone
        settings=profile,
    )
