"""Sagas whose session died without a word: unwound, or left to a person, and never on a guess."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import asyncpg
import pytest
from temporalio.client import (
    Schedule,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionStartWorkflow,
    ScheduleHandle,
    ScheduleUpdate,
    WorkflowExecutionStatus,
)
from temporalio.service import RPCError

from holdfast.saga_contracts import SWEEP_WORKFLOW, SweepInput, SweepResult, unwind_id
from holdfast.states import SagaState
from holdfast_activities.fates import Fate
from holdfast_activities.orphans import judge
from holdfast_ledger.saga_records import UnfinishedSaga
from holdfast_workers.plugin import HoldfastPlugin
from holdfast_workers.sweeping import ensure_schedule, schedule_id
from holdfast_workers.temporal import connect_temporal
from holdfast_workers.worker import build_worker
from tests.conftest import House
from tests.waiting import until
from tests.workflows.conftest import Runs
from tests.workflows.test_unwinding import RESERVE_AND_PAY, sagas

FINISHED = """
name: finished
description: Reserve, and be done.
example: trip
match: trip
turns:
  - calls: [{tool: reserve, input: {what: seat}}]
  - text: done
"""


async def waiting(house: House) -> str:
    """A session that has reserved a seat and a bed, and waits for a person."""
    session = await house.start("trip")
    await house.until_asked(session)
    return session


async def terminated(house: House) -> str:
    session = await waiting(house)
    await house.handle(session).terminate("by a test")
    return session


async def ended(house: House, state: str) -> None:
    async def reached() -> bool:
        return await sagas(house) == [state]

    await until(reached, f"the saga to be {state}", within=20)


async def test_what_a_terminated_session_left_is_undone(open_house, config: str, runs: Runs) -> None:
    async with open_house(RESERVE_AND_PAY, config=config) as house:
        await terminated(house)
        found = await house.holdfast.sweep()
        assert (found.scanned, len(found.started), found.held, found.alarm) == (1, 1, (), "")
        await ended(house, "ABORTED")
        assert runs()[-2:] == ["release bed", "release seat"]
        assert (await house.holdfast.sweep()).scanned == 0


async def test_an_idle_session_whose_request_committed_leaves_nothing_to_undo(
    open_house, config: str, runs: Runs
) -> None:
    async with open_house(FINISHED, config=config) as house:
        session = await house.start("trip")
        await house.until(session, "idle")
        await house.handle(session).terminate("by a test")
        assert (await house.holdfast.sweep()).scanned == 0
        assert runs() == ["reserve seat"]


async def test_a_session_that_lives_is_left_alone(open_house, config: str, runs: Runs) -> None:
    async with open_house(RESERVE_AND_PAY, config=config) as house:
        await waiting(house)
        found = await house.holdfast.sweep()
        assert (found.scanned, found.started, found.held) == (1, (), ())
        assert await sagas(house) == ["OPEN"]


async def test_nothing_is_undone_where_temporal_does_not_know_the_session(
    open_house, config: str, runs: Runs
) -> None:
    async with open_house(RESERVE_AND_PAY, config=config) as house:
        await terminated(house)
        owner = await asyncpg.connect(house.database.owner_dsn)
        await owner.execute("UPDATE holdfast.saga SET owner = 'a session of another Temporal'")
        await owner.close()
        found = await house.holdfast.sweep()
        assert (found.started, len(found.held)) == ((), 1)
        assert await sagas(house) == ["HELD"]
        assert not any(run.startswith("release") for run in runs())


async def test_a_temporal_that_the_ledger_does_not_belong_to_is_believed_nothing(open_house, config: str) -> None:
    async with open_house(RESERVE_AND_PAY, config=config) as house:
        await terminated(house)
        owner = await asyncpg.connect(house.database.owner_dsn)
        await owner.execute("UPDATE holdfast.saga SET owner = 'a session of the Temporal that was lost'")
        await owner.execute("UPDATE holdfast.meta SET cluster_id = 'the Temporal that was lost'")
        await owner.close()
        found = await house.holdfast.sweep()
        assert (found.scanned, found.started, found.held) == (0, (), ())
        assert "belongs to Temporal cluster `the Temporal that was lost`" in found.alarm
        assert await sagas(house) == ["OPEN"]


async def test_too_many_orphans_stop_the_sweep_until_a_person_says_so(open_house, config: str, runs: Runs) -> None:
    async with open_house(RESERVE_AND_PAY, config=config) as house:
        await terminated(house)
        strict = SweepInput(at_most=0, at_most_share=0.0, older_than=timedelta(0))
        stopped: SweepResult = await house.temporal.execute_workflow(
            SWEEP_WORKFLOW,
            strict,
            id=f"strict-{house.settings.task_queue}",
            task_queue=house.settings.task_queue,
            result_type=SweepResult,
        )
        assert "1 of 1 open sagas lost their workflow" in stopped.alarm
        assert await sagas(house) == ["OPEN"]
        assert not any(run.startswith("release") for run in runs())
        assert (await house.holdfast.sweep(force=True)).started
        await ended(house, "ABORTED")


async def test_an_unwind_that_was_terminated_is_begun_again(open_house, config: str, runs: Runs, gate) -> None:
    async with open_house(RESERVE_AND_PAY, config=config) as house:
        gate.touch()
        session = await terminated(house)
        await house.holdfast.sweep()
        await house.until_claimed("release")
        (saga,) = await house.rows("SELECT id FROM holdfast.saga")
        await house.temporal.get_workflow_handle(unwind_id(saga["id"])).terminate("by a test")
        gate.unlink()
        await house.holdfast.sweep()
        await ended(house, "ABORTED")
        assert sorted(runs()[-2:]) == ["release bed", "release seat"]
        assert session in saga["id"]


async def shown(house: House) -> list[tuple[str, str, str | None]]:
    """Status, reason and approval of each session, oldest first."""
    rows = await house.rows(
        """SELECT s.status, s.status_reason, a.state FROM holdfast.session s
        LEFT JOIN holdfast.approval a USING (session_key) ORDER BY s.session_key"""
    )
    return [(row["status"], row["status_reason"], row["state"]) for row in rows]


async def test_a_terminated_session_gets_its_end_and_what_it_asked_expires(open_house, config: str) -> None:
    async with open_house(RESERVE_AND_PAY, config=config) as house:
        session = await terminated(house)
        assert await shown(house) == [("waiting", "a person must decide about 3.1 pay", "pending")]
        assert (await house.holdfast.sweep()).ended == (session,)
        assert await shown(house) == [("aborted", "its workflow was terminated", "expired")]
        await ended(house, "ABORTED")
        assert (await house.holdfast.sweep()).ended == ()
        kinds = [entry["kind"] for entry in await house.entries(session)]
        assert kinds.count("session_closed") == 1


async def test_an_idle_session_that_was_terminated_gets_its_end(open_house, config: str) -> None:
    async with open_house(FINISHED, config=config) as house:
        session = await house.start("trip")
        await house.until(session, "idle")
        await house.handle(session).terminate("by a test")
        assert (await house.holdfast.sweep()).ended == (session,)
        assert await shown(house) == [("aborted", "its workflow was terminated", None)]


async def test_sessions_that_live_or_ended_as_they_should_are_left_as_they_are(open_house, config: str) -> None:
    async with open_house(FINISHED, config=config) as house:
        session = await house.start("trip")
        await house.until(session, "idle")
        over = await house.start("trip", close_when_idle=True)
        await house.holdfast.result(over)
        owner = await asyncpg.connect(house.database.owner_dsn)
        await owner.execute("UPDATE holdfast.session SET ended_at = NULL")  # as a restored backup has it
        await owner.close()
        assert (await house.holdfast.sweep()).ended == ()
        assert [status for status, _, _ in await shown(house)] == ["idle", "completed"]


async def test_a_session_that_temporal_does_not_know_is_not_said_to_be_dead(open_house, config: str) -> None:
    async with open_house(FINISHED, config=config) as house:
        session = await house.start("trip")
        await house.until(session, "idle")
        owner = await asyncpg.connect(house.database.owner_dsn)
        await owner.execute("UPDATE holdfast.session SET id = 'one-whose-history-is-gone'")
        await owner.close()
        assert (await house.holdfast.sweep()).ended == ()
        assert [status for status, _, _ in await shown(house)] == ["idle"]
        assert session


async def test_a_sweep_looks_at_some_sessions_and_the_next_one_goes_on_after_them(open_house, config: str) -> None:
    async with open_house(FINISHED, config=config) as house:
        sessions = list[str]()
        for _ in range(3):  # one at a time: a worker that keeps no workflow may lose one that opens beside others
            sessions.append(await house.start("trip"))
            await house.until(sessions[-1], "idle")
        async with schedule(house, timedelta(hours=1)) as made:
            await made.update(lambda known: few_at_once(known.description.schedule, 2))
            await house.handle(sessions[2]).terminate("by a test")
            assert [await swept(house, made, number) for number in (1, 2, 3)] == [(), (sessions[2],), ()]


def few_at_once(schedule: Schedule, number: int) -> ScheduleUpdate:
    action = schedule.action
    assert isinstance(action, ScheduleActionStartWorkflow)
    action.args = [SweepInput(sessions_at_once=number)]
    return ScheduleUpdate(schedule)


async def swept(house: House, made: ScheduleHandle, number: int) -> tuple[str, ...]:
    """Have the schedule run for the so-manieth time, and return the sessions that it ended."""
    await made.trigger()

    async def begun() -> ScheduleActionExecutionStartWorkflow | None:
        runs = (await made.describe()).info.recent_actions
        last = runs[-1].action if len(runs) == number else None
        return last if isinstance(last, ScheduleActionExecutionStartWorkflow) else None

    sweep = await until(begun, f"run {number} of the schedule")
    handle = house.temporal.get_workflow_handle(
        sweep.workflow_id, run_id=sweep.first_execution_run_id, result_type=SweepResult
    )
    return (await handle.result()).ended


@asynccontextmanager
async def schedule(house: House, every: timedelta):
    await ensure_schedule(house.temporal, house.settings.task_queue, every)
    handle = house.temporal.get_schedule_handle(schedule_id(house.settings.task_queue))
    yield handle
    await handle.delete()


async def test_the_schedule_is_made_once_takes_a_new_interval_and_stays_paused(open_house, config: str) -> None:
    async with open_house(config=config, work=False) as house, schedule(house, timedelta(hours=1)) as made:
        await made.pause(note="a test")
        await ensure_schedule(house.temporal, house.settings.task_queue, timedelta(hours=2))
        found = (await made.describe()).schedule
        (interval,) = found.spec.intervals
        assert (interval.every, found.state.paused) == (timedelta(hours=2), True)


async def test_any_worker_of_the_plugin_keeps_the_schedule_of_its_queue(open_house, config: str) -> None:
    async with open_house(FINISHED, config=config, work=False) as house:
        client = await connect_temporal(house.settings.temporal, plugins=[HoldfastPlugin(house.settings)])
        made = client.get_schedule_handle(schedule_id(house.settings.task_queue))

        async def kept() -> bool:
            with suppress(RPCError):
                return bool((await made.describe()).schedule.spec.intervals)
            return False

        async with build_worker(client, task_queue=house.settings.task_queue):
            await until(kept, "the schedule")
        await made.delete()


ROW = UnfinishedSaga(
    saga_id="s/request-1-ab",
    session_id="s",
    state=SagaState.OPEN,
    owner="s",
    owner_run=None,
    code_defined=False,
    past_pivot=False,
)
RUNNING, COMPLETED, TERMINATED = (
    WorkflowExecutionStatus.RUNNING,
    WorkflowExecutionStatus.COMPLETED,
    WorkflowExecutionStatus.TERMINATED,
)
DEAD = [
    TERMINATED,
    WorkflowExecutionStatus.FAILED,
    WorkflowExecutionStatus.TIMED_OUT,
    WorkflowExecutionStatus.CANCELED,
]


def judged(owner, unwinder=None, queue="q", **changes) -> str | None:
    orphan = judge(
        UnfinishedSaga(**{**vars(ROW), **changes}), "q", Fate(owner, queue if owner else ""), Fate(unwinder, "q")
    )
    return orphan.what if orphan else None


@pytest.mark.parametrize("dead", DEAD, ids=lambda status: status.name)
def test_a_dead_forward_side_is_unwound_before_its_pivot_and_gone_on_with_after_it(dead) -> None:
    assert judged(dead) == "unwind"
    assert judged(dead, code_defined=True) == "unwind"
    assert judged(dead, code_defined=True, past_pivot=True) == "restart"
    assert judged(dead, code_defined=True, state=SagaState.COMMITTING) == "restart"
    assert judged(dead, code_defined=True, state=SagaState.FORWARD_PENDING) == "restart"


def test_who_works_on_a_saga_is_left_alone() -> None:
    assert judged(RUNNING) is None
    assert judged(WorkflowExecutionStatus.CONTINUED_AS_NEW) is None
    assert judged(TERMINATED, unwinder=RUNNING, state=SagaState.UNWINDING) is None
    assert judged(COMPLETED, code_defined=True, state=SagaState.FORWARD_PENDING) is None


def test_what_temporal_does_not_know_or_says_is_complete_is_a_persons() -> None:
    assert judged(None) == "hold"
    assert judged(None, state=SagaState.UNWINDING) == "hold"
    assert judged(COMPLETED) == "hold"


@pytest.mark.parametrize("owner", [RUNNING, COMPLETED, TERMINATED], ids=lambda status: status.name)
def test_an_unwind_without_a_workflow_is_begun_again_whatever_became_of_the_session(owner) -> None:
    assert judged(owner, state=SagaState.UNWINDING) == "unwind"
    assert judged(owner, unwinder=COMPLETED, state=SagaState.UNWINDING) == "unwind"


def test_another_queues_saga_is_for_workers_that_have_its_code() -> None:
    assert judged(TERMINATED, queue="other") is None
