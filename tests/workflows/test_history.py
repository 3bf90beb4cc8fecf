"""What a session costs in Temporal's history, and that its histories replay."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from holdfast_workers.plugin import HoldfastPlugin
from holdfast_workers.worker import WorkerSettings
from holdfast_workflows import attributes
from tests.conftest import House
from tests.waiting import until

HISTORIES = Path(__file__).with_name("histories")

READS = """
name: reads
description: One read a turn.
example: reads
match: reads
turns:
  - calls: [{tool: look, input: {what: roof}}]
    repeat: 10
  - text: done
"""

PAY = """
name: pay
description: Pay.
example: pay
match: pay
turns:
  - calls: [{tool: pay, input: {cents: 500}}]
  - text: done
"""


async def test_a_turn_with_one_call_costs_at_most_12_events_and_4_kilobytes(open_house, config: str) -> None:
    async with open_house(READS, config=config) as house:
        session = await house.start("reads", close_when_idle=True)
        await asyncio.wait_for(house.holdfast.result(session), 20)
        events = await house.history(session)
        scheduled = [
            index
            for index, event in enumerate(events)
            if event.activity_task_scheduled_event_attributes.activity_type.name == "model_turn"
        ]
        for begin, end in pairwise(scheduled):
            turn = events[begin:end]
            assert len(turn) <= 12
            assert sum(event.ByteSize() for event in turn) <= 4096


async def test_a_turn_takes_one_activity_for_the_model_and_one_per_call(open_house, config: str) -> None:
    async with open_house(READS, config=config) as house:
        session = await house.start("reads", close_when_idle=True)
        await asyncio.wait_for(house.holdfast.result(session), 20)
        types = Counter(
            event.activity_task_scheduled_event_attributes.activity_type.name
            for event in await house.history(session)
            if event.HasField("activity_task_scheduled_event_attributes")
        )
        assert types == {"model_turn": 11, "execute_call": 10, "close_session": 1}


async def test_a_session_opens_inside_the_task_that_schedules_its_first_turn(open_house) -> None:
    async with open_house() as house:
        session = await house.start("hello", close_when_idle=True)
        await asyncio.wait_for(house.holdfast.result(session), 20)
        events = await house.history(session)
        (opened,) = [event for event in events if event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED]
        first = next(event for event in events if event.HasField("activity_task_scheduled_event_attributes"))
        task = opened.marker_recorded_event_attributes.workflow_task_completed_event_id
        assert first.activity_task_scheduled_event_attributes.workflow_task_completed_event_id == task


async def upserts(house: House, session: str) -> list[set[str]]:
    """The search attributes that each upsert of the history sets."""
    return [
        set(event.upsert_workflow_search_attributes_event_attributes.search_attributes.indexed_fields)
        for event in await house.history(session)
        if event.event_type == EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES
    ]


CHANGING = {attributes.STATUS.name, attributes.PENDING_APPROVALS.name}


async def test_a_session_shows_its_status_and_agent_and_writes_only_what_changed(open_house, config: str) -> None:
    async with open_house(READS, config=config) as house:
        session = await house.start("reads", close_when_idle=True)
        await asyncio.wait_for(house.holdfast.result(session), 20)
        shown = (await house.handle(session).describe()).typed_search_attributes
        assert (shown.get(attributes.STATUS), shown.get(attributes.AGENT)) == ("completed", "default")
        assert await upserts(house, session) == [CHANGING]


async def test_one_that_was_started_without_search_attributes_shows_them_once_it_is_open(open_house) -> None:
    async with open_house() as house:
        start = {"agent": "default", "message": "hello", "close_when_idle": True}
        queue = house.settings.task_queue
        handle = await house.temporal.start_workflow("AgentSession", start, id=f"bare-{queue}", task_queue=queue)
        await asyncio.wait_for(handle.result(), 20)
        shown = (await handle.describe()).typed_search_attributes
        assert (shown.get(attributes.STATUS), shown.get(attributes.AGENT)) == ("completed", "default")
        assert await upserts(house, handle.id) == [CHANGING | {attributes.AGENT.name}, CHANGING]


async def rested(house, session: str, *, turns: int) -> None:
    """Wait until the workflow itself is idle: the ledger says so a little earlier, in the turn's commit."""

    async def idle() -> bool:
        recorded = await house.rows("SELECT turns FROM holdfast.session WHERE id = $1", session)
        shown = (await house.handle(session).describe()).typed_search_attributes.get(attributes.STATUS)
        return recorded[0]["turns"] == turns and shown == "idle"

    await until(idle, f"{turns} turns and rest")


async def test_a_message_costs_at_most_6_events_beside_its_turn(open_house) -> None:
    async def events(messages: int) -> int:
        async with open_house() as house:
            session = await house.start("hello")
            for number in range(messages):
                await rested(house, session, turns=number + 1)
                await house.holdfast.send(session, "hello", by="ann")
            await rested(house, session, turns=messages + 1)
            await house.holdfast.close_session(session, by="ann")
            await asyncio.wait_for(house.holdfast.result(session), 20)
            return len(await house.history(session))

    turn_with_its_end = 6 + 1  # three of the activity, three of its workflow task, the upsert when it ends
    assert 0 < (await events(5) - await events(1)) / 4 <= 6 + turn_with_its_end


async def test_an_approval_costs_at_most_12_events(open_house, config: str) -> None:
    async def events(config: str, *, asks: bool) -> int:
        async with open_house(PAY, config=config) as house:
            session = await house.start("pay", close_when_idle=True)
            if asks:
                asked = await house.until_asked(session)
                await house.handle(session).signal("approve", {"call": asked["call"], "digest": asked["digest"]})
            await asyncio.wait_for(house.holdfast.result(session), 20)
            return len(await house.history(session))

    unasked = await events(config + '\n[agents.default.policy]\nallow = ["pay"]\n', asks=False)
    assert 0 < await events(config, asks=True) - unasked <= 12


async def test_every_scheduled_activity_carries_its_policy_and_timeouts(open_house, config: str) -> None:
    async with open_house(READS, config=config) as house:
        session = await house.start("reads", close_when_idle=True)
        await asyncio.wait_for(house.holdfast.result(session), 20)
        for event in await house.history(session):
            if event.HasField("activity_task_scheduled_event_attributes"):
                scheduled = event.activity_task_scheduled_event_attributes
                assert scheduled.HasField("retry_policy")
                assert scheduled.retry_policy.initial_interval.ToMilliseconds() == 200
                assert scheduled.start_to_close_timeout.ToSeconds() > 0
                assert scheduled.heartbeat_timeout.ToSeconds() == 15


async def test_a_session_runs_with_every_workflow_task_a_replay(open_house, config: str) -> None:
    async with open_house(PAY, config=config, worker=WorkerSettings(cached_sessions=0)) as house:
        session = await house.start("pay")
        asked = await house.until_asked(session)
        await house.holdfast.decide(session, asked["call"], approve=True, digest=asked["digest"], by="bob")
        await house.until(session, "idle")
        await house.holdfast.close_session(session, by="ann")
        assert (await asyncio.wait_for(house.holdfast.result(session), 20)).status == "completed"


@pytest.mark.parametrize("path", sorted(HISTORIES.glob("*.json")), ids=lambda path: path.stem)
def test_a_recorded_history_replays(path: Path) -> None:
    recorded = json.loads(path.read_text())
    session = recorded["events"][0]["workflowExecutionStartedEventAttributes"]["workflowId"]
    history = WorkflowHistory.from_json(session, recorded)  # ids of children contain the session's
    asyncio.run(Replayer(workflows=[], plugins=[HoldfastPlugin()]).replay_workflow(history))


def test_there_are_recorded_histories() -> None:
    assert len(list(HISTORIES.glob("*.json"))) >= 4
