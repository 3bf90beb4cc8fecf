"""A write that is under way when somebody stops, pauses, resets or deploys, or Postgres is away, is never in doubt.

Its class is `Operator`: were it ever taken for lost, a person would have to be asked.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from datetime import datetime

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import PauseActivityRequest, ResetActivityRequest, UnpauseActivityRequest

from holdfast_workers.worker import build_worker
from tests.conftest import QUICK, House
from tests.outages.conftest import Bench, OpenBench
from tests.waiting import until

ACTIVITY = "turn-1.1.move"
LEASE_S = 0.9
SHORT_LEASE = """
[effects]
lease = "900ms"
renewal = "300ms"
"""


async def under_way(house: House, session: str) -> PendingActivityInfo | None:
    """The call as Temporal has it."""
    pending = (await house.handle(session).describe()).raw_description.pending_activities
    return next((each for each in pending if each.activity_id == ACTIVITY), None)


async def pause(house: House, session: str) -> None:
    await house.temporal.workflow_service.pause_activity(
        PauseActivityRequest(
            namespace=house.temporal.namespace,
            execution=WorkflowExecution(workflow_id=session),
            id=ACTIVITY,
            identity="ann",
        )
    )

    async def paused() -> bool:
        activity = await under_way(house, session)
        return bool(activity and activity.paused)

    await until(paused, "the pause")


async def pause_and_unpause(house: House, session: str) -> None:
    await pause(house, session)
    await house.temporal.workflow_service.unpause_activity(
        UnpauseActivityRequest(
            namespace=house.temporal.namespace,
            execution=WorkflowExecution(workflow_id=session),
            id=ACTIVITY,
            identity="ann",
            reset_attempts=True,
        )
    )


async def reset(house: House, session: str) -> None:
    await house.temporal.workflow_service.reset_activity(
        ResetActivityRequest(
            namespace=house.temporal.namespace,
            execution=WorkflowExecution(workflow_id=session),
            id=ACTIVITY,
            identity="ann",
            reset_heartbeat=True,
        )
    )


async def done_once(bench: Bench, session: str) -> None:
    """The call was carried out by its first attempt, and the session goes on."""
    await bench.house.until(session, "idle")
    assert bench.runs == ["move parcel"]
    [effect] = await bench.house.rows("SELECT state, token, doubt FROM holdfast.effect WHERE tool = 'move'")
    assert tuple(effect) == ("DONE", 1, False)


@pytest.mark.parametrize("disturb", [pause, pause_and_unpause, reset])
async def test_a_write_that_is_paused_or_reset_from_temporals_ui_is_done_once(
    bench: Bench, disturb: Callable[[House, str], Awaitable[None]]
) -> None:
    session = await bench.house.start("move")
    await bench.until_run()
    before = await heartbeat(bench.house, session)
    await disturb(bench.house, session)
    await until(lambda: later_heartbeat(bench.house, session, before), "the worker to hear of it")
    bench.let_answer()
    await done_once(bench, session)


async def heartbeat(house: House, session: str) -> datetime:
    activity = await under_way(house, session)
    assert activity
    return activity.last_heartbeat_time.ToDatetime()


async def later_heartbeat(house: House, session: str, before: datetime) -> bool:
    """With the answer to it the worker has been told what happened before. A reset forgets the last one."""
    return await heartbeat(house, session) != before


async def test_a_write_outlives_an_outage_of_postgres_longer_than_its_lease(open_bench: OpenBench) -> None:
    async with open_bench(config=SHORT_LEASE) as bench:
        session = await bench.house.start("move")
        await bench.until_run()
        async with bench.own.postgres.away():
            await asyncio.sleep(LEASE_S + 0.3)  # time itself is what goes on
        bench.let_answer()
        await done_once(bench, session)


@pytest.mark.timeout(150)
async def test_a_worker_that_is_deployed_anew_finishes_the_write_it_is_at(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_bench(config=SHORT_LEASE, work=False) as bench:
        house = bench.house
        monkeypatch.setenv("HOLDFAST_SCRIPTED_MODEL", house.model.url)
        session = await house.start("move")
        async with bench.cli.process("worker", "start") as old:
            await until(lambda: bool(bench.runs), "the write of a worker that has to start first", within=60)
            old.send_signal(signal.SIGTERM)
            async with build_worker(house.temporal, task_queue=house.settings.task_queue, settings=QUICK):
                await asyncio.sleep(LEASE_S + 0.3)  # it keeps its lease although it takes nothing more
                assert old.returncode is None
                bench.let_answer()
                await asyncio.wait_for(old.communicate(), 60)
                await done_once(bench, session)
        assert old.returncode == 0
