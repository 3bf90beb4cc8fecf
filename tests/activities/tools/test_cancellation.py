"""Stopping an attempt: nothing is sent after the stop, and what was sent is recorded."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from temporalio.activity import ActivityCancellationDetails

from holdfast.states import CallStatus
from holdfast_activities.calls import attempt as call_attempt
from holdfast_activities.calls import running
from tests.activities.tools.conftest import Bench, Service
from tests.waiting import until

CANCEL = ActivityCancellationDetails(cancel_requested=True)
PAUSE = ActivityCancellationDetails(paused=True)
SHUTDOWN = ActivityCancellationDetails(worker_shutdown=True)


@pytest.mark.parametrize("details", [CANCEL, PAUSE, SHUTDOWN])
async def test_a_dispatched_write_finishes_and_is_recorded_whoever_cancels(
    bench: Bench, service: Service, details: ActivityCancellationDetails
) -> None:
    call = await bench.plan("pay", path="gate")
    environment, work = bench.start(call)
    await until(lambda: bool(service.effects), "the effect")

    environment.cancel(cancellation_details=details)
    await asyncio.sleep(0)
    service.gate.set()

    assert (await work).status is CallStatus.OK
    assert (await bench.effect(call))["state"] == "DONE"


@pytest.mark.parametrize("details", [CANCEL, PAUSE, SHUTDOWN])
async def test_before_dispatch_the_claim_is_given_back_and_no_attempt_is_used(
    bench: Bench, service: Service, details: ActivityCancellationDetails, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await bench.plan("pay_blindly", path="ok")
    claimed, go_on = asyncio.Event(), asyncio.Event()
    claim = bench.conversation.ledger.claim

    async def slow_claim(wanted: object) -> object:
        result = await claim(wanted)  # type: ignore[arg-type]  # handed through as it is
        claimed.set()
        await go_on.wait()
        return result

    monkeypatch.setattr(bench.conversation.ledger, "claim", slow_claim)  # a point in time, not a stand-in
    environment, work = bench.start(call)
    await claimed.wait()
    environment.cancel(cancellation_details=details)
    await asyncio.sleep(0)
    go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await work
    row = await bench.effect(call)
    assert (row["state"], row["attempts_used"], row["doubt"]) == ("OPEN", 0, False)
    assert not service.effects


async def test_a_cancelled_read_stops_at_once(bench: Bench) -> None:
    call = await bench.plan("wait_for_ever", path="x")
    environment, work = bench.start(call)
    await until(lambda: _claimed(bench, call.effect_id), "the claim")

    environment.cancel(cancellation_details=CANCEL)

    with pytest.raises(asyncio.CancelledError):
        await work
    assert (await bench.effect(call))["state"] == "OPEN"


async def test_a_write_in_a_thread_is_waited_for(bench: Bench, service: Service) -> None:
    call = await bench.plan("slow_thread", path="gate")
    environment, work = bench.start(call)
    await until(lambda: bool(service.effects), "the effect")

    environment.cancel(cancellation_details=CANCEL)
    service.gate.set()

    assert (await work).status is CallStatus.OK


async def test_an_abandoned_read_in_a_thread_ends_at_its_next_heartbeat(bench: Bench) -> None:
    call = await bench.plan("endless_read", path="x")

    outcome = await bench.run(call, attempts=1)

    assert outcome.status is CallStatus.ERROR
    assert outcome.text
    assert "no answer within 0.2 s" in outcome.text
    threads = bench.executions._threads
    await until(lambda: threads._idle_semaphore.acquire(blocking=False), "an idle thread")


async def test_a_stale_claim_dispatches_nothing(
    bench: Bench, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_attempt, "DISPATCH_WITHIN", timedelta(0))
    call = await bench.plan("pay_blindly", path="ok")

    with pytest.raises(Exception, match="released"):
        await bench.run(call)

    row = await bench.effect(call)
    assert (row["state"], row["attempts_used"]) == ("OPEN", 0)
    assert not service.effects


async def test_an_attempt_that_lost_its_effect_changes_nothing(bench: Bench, service: Service) -> None:
    call = await bench.plan("pay", path="gate")
    _, work = bench.start(call)
    await until(lambda: bool(service.effects), "the effect")
    await bench.conversation.expire_lease(call)
    newer = await bench.conversation.grant(call)

    service.gate.set()

    with pytest.raises(Exception, match="newer attempt"):
        await work
    row = await bench.effect(call)
    assert (row["state"], row["token"]) == ("CLAIMED", newer.token)


async def _claimed(bench: Bench, effect_id: str) -> bool:
    state = await bench.conversation.owner.fetchval(
        "SELECT state FROM holdfast.effect WHERE effect_id = $1", effect_id
    )
    return bool(state == "CLAIMED")


def test_the_grace_of_threads_fits_the_activitys_own_limit() -> None:
    from holdfast.contracts import RECORD_MARGIN

    assert running.THREAD_GRACE + running.CANCEL_GRACE < RECORD_MARGIN
