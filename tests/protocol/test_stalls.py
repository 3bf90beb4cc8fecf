"""A worker that stalls past its lease and goes on, beside the one that took its place: still once."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError

from holdfast.states import CallStatus, EffectState, RecoveryClass
from holdfast_ledger.errors import LedgerUnavailable
from holdfast_ledger.records import Record
from tests.protocol.conftest import CLASSES, Stage
from tests.protocol.simulated import AFTER_CLAIM, AFTER_EFFECT, BEFORE_EFFECT, BEFORE_RECORD

RETRY, IDEMPOTENT, PROBE, OPERATOR, TRANSACTIONAL = CLASSES
each_class = pytest.mark.parametrize("recovery", CLASSES, ids=[each.value for each in CLASSES])
STOPS = {
    "pause": ActivityCancellationDetails(paused=True),
    "reset": ActivityCancellationDetails(reset=True),
    "worker shutdown": ActivityCancellationDetails(worker_shutdown=True),
}
any_stop = pytest.mark.parametrize("stop", STOPS.values(), ids=list(STOPS))


@each_class
@pytest.mark.parametrize("step", [AFTER_CLAIM, BEFORE_EFFECT, AFTER_EFFECT, BEFORE_RECORD])
def test_two_workers_that_hold_the_same_attempt_have_one_effect(
    stage: Stage, recovery: RecoveryClass, step: str
) -> None:
    async def story() -> None:
        scene = await stage.scene()
        first, _ = await scene.run(recovery, stall_at=step)
        if recovery is TRANSACTIONAL and step == BEFORE_RECORD:
            await first.kill()  # it holds the effect's row; `test_a_stalled_transaction_...` says for how long
        outcome = await scene.settle(recovery)
        settled = await scene.row(recovery)

        await first.resume()

        assert await scene.row(recovery) == settled, "a stale token changed something"
        assert await scene.settle(recovery) == outcome
        assert outcome.status is (CallStatus.UNKNOWN if recovery is OPERATOR else CallStatus.OK)
        # What only reads may be read twice; an operator's call happens when the stalled worker goes on, if at all.
        most = 2 if recovery is RETRY else 1
        least = 0 if (recovery, step) == (OPERATOR, AFTER_CLAIM) else 1
        assert least <= await scene.happened(recovery) <= most
        await scene.end()

    stage.run(story())


def test_a_worker_that_stalls_in_its_transaction_gives_the_locks_back(stage: Stage) -> None:
    async def story() -> None:
        scene = await stage.scene()
        conversation, call = scene.conversation, scene.calls[TRANSACTIONAL]
        first = await conversation.grant(call)
        record = Record(
            effect_id=call.effect_id,
            session_id=conversation.session_id,
            token=first.token,
            state=EffectState.DONE,
            outcome={"status": "ok"},
        )

        async def stalled() -> None:
            async with stage.ledger.transaction(stall=timedelta(milliseconds=200)) as connection:
                assert (await stage.ledger.record_within(connection, record)).accepted
                await scene.expire(TRANSACTIONAL)  # waits for the row, which the stalled transaction holds
                assert (await conversation.grant(call)).token == first.token + 1

        with pytest.raises(LedgerUnavailable):
            await stalled()
        await scene.end()

    stage.run(story())


@each_class
def test_a_claim_older_than_a_second_dispatches_nothing_and_uses_no_attempt(
    stage: Stage, recovery: RecoveryClass
) -> None:
    async def story() -> None:
        scene = await stage.scene()
        process, _ = await scene.run(recovery, stall_at=AFTER_CLAIM)

        ended = await process.resume(slept=1.5)

        assert isinstance(ended, ApplicationError)
        row = await scene.row(recovery)
        assert (scene.sent(), row["state"], row["attempts_used"], row["doubt"]) == (0, "OPEN", 0, False)
        await scene.end()

    stage.run(story())


@each_class
@any_stop
@pytest.mark.parametrize("step", [AFTER_CLAIM, BEFORE_EFFECT, AFTER_EFFECT])
def test_a_healthy_call_is_never_unknown_for_being_stopped(
    stage: Stage, recovery: RecoveryClass, step: str, stop: ActivityCancellationDetails
) -> None:
    async def story() -> None:
        scene = await stage.scene()
        process, _ = await scene.run(recovery, stall_at=step)
        process.cancel(stop)
        await process.resume(slept=0)
        assert process.sent == 0 or step != AFTER_CLAIM

        outcome = await scene.settle(recovery, attempt=1)

        assert outcome.status is CallStatus.OK
        assert await scene.happened(recovery) == 1 or recovery is RETRY
        await scene.end()

    stage.run(story())


def test_a_workers_clock_an_hour_off_changes_no_lease(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        scene = await stage.scene()
        first, _ = await scene.run(OPERATOR, stall_at=BEFORE_EFFECT)

        _an_hour_later(stage, monkeypatch)
        _, busy = await scene.run(OPERATOR)

        assert isinstance(busy, ApplicationError)
        assert busy.type == "EffectBusy"
        assert busy.next_retry_delay is not None
        assert timedelta(seconds=5) < busy.next_retry_delay <= timedelta(seconds=15)
        await first.resume(slept=0)
        assert (await scene.state(OPERATOR), await scene.happened(OPERATOR)) == (EffectState.DONE, 1)
        await scene.end()

    stage.run(story())


def _an_hour_later(stage: Stage, patch: pytest.MonkeyPatch) -> None:
    """For this process alone, wherever it may read a clock of its own."""
    real = time.time
    around = replace(stage.executions._around, now=lambda: datetime.now(UTC) + timedelta(hours=1))
    patch.setattr(time, "time", lambda: real() + 3600)
    patch.setattr(stage.executions, "_around", around)


@pytest.mark.parametrize("state", [EffectState.DONE, EffectState.FAILED])
def test_what_a_person_settled_stays_whatever_a_stalled_worker_says(stage: Stage, state: EffectState) -> None:
    async def story() -> None:
        scene = await stage.scene()
        stalled, _ = await scene.run(OPERATOR, stall_at=BEFORE_RECORD)
        await scene.settle(OPERATOR)
        assert (await scene.resolve(OPERATOR, state)).accepted
        settled = await scene.row(OPERATOR)

        await stalled.resume()

        assert await scene.row(OPERATOR) == settled
        assert not (await scene.resolve(OPERATOR, EffectState.OPEN, resolution="r2")).accepted
        await scene.end()

    stage.run(story())
