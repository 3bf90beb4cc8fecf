"""Quick reads inside the workflow task: the same protocol and ledger, at one event instead of six."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from holdfast_workers.worker import WorkerSettings
from tests.workflows.conftest import Runs

GLANCES = """
name: glances
description: One quick read a turn, once two.
example: glance
match: glance
turns:
  - calls: [{tool: glance, input: {what: roof}}]
    repeat: 8
  - calls: [{tool: glance, input: {what: cellar}}, {tool: glance, input: {what: attic}}]
  - text: "{{ every.glance | join(', ') }}"
"""
ACCOMPANIED = """
name: accompanied
description: A quick read beside a slower one.
example: glance
match: glance
turns:
  - calls: [{tool: glance, input: {what: roof}}, {tool: look, input: {what: cellar}}]
  - text: done
"""
HANGS = """
name: hangs
description: A quick read that is not quick.
example: glance
match: glance
turns:
  - calls: [{tool: glance, input: {what: roof, hangs: true}}]
  - text: "{{ outcome.glance }}"
"""


def activities(events: list[HistoryEvent]) -> Counter[str]:
    return Counter(
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in events
        if event.HasField("activity_task_scheduled_event_attributes")
    )


@pytest.mark.golden
async def test_a_turn_of_quick_reads_costs_at_most_7_events_and_one_for_each_further_call(
    open_house, config: str, runs: Runs
) -> None:
    async with open_house(GLANCES, config=config) as house:
        session = await house.start("glance", close_when_idle=True)
        assert (await asyncio.wait_for(house.holdfast.result(session), 20)).calls == 10
        events = await house.history(session)
        assert activities(events) == {"model_turn": 10, "close_session": 1}
        begins = [
            index
            for index, event in enumerate(events)
            if event.activity_task_scheduled_event_attributes.activity_type.name == "model_turn"
        ]
        for begin, end in pairwise(begins):
            turn = events[begin:end]
            marks = sum(event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED for event in turn)
            assert len(turn) <= 6 + marks
            assert sum(event.ByteSize() for event in turn) <= 4096
        assert runs() == ["glance roof"] * 8 + ["glance cellar", "glance attic"]
        effects = await house.rows("SELECT state FROM holdfast.effect WHERE kind = 'call'")
        assert [effect["state"] for effect in effects] == ["DONE"] * 10
        kinds = Counter(entry["kind"] for entry in await house.entries(session))
        assert kinds["effect_intent"] == kinds["effect_outcome"] == 10, "the same protocol and the same ledger"


async def test_beside_any_other_call_a_quick_read_is_an_ordinary_one(open_house, config: str) -> None:
    async with open_house(ACCOMPANIED, config=config) as house:
        session = await house.start("glance", close_when_idle=True)
        await asyncio.wait_for(house.holdfast.result(session), 20)
        assert activities(await house.history(session))["execute_call"] == 2


async def test_a_read_that_was_asked_about_is_an_ordinary_one(open_house, config: str) -> None:
    config += '\n[agents.default.policy]\nask = ["glance"]\n'
    async with open_house(GLANCES.replace("repeat: 8", "repeat: 1"), config=config) as house:
        session = await house.start("glance")
        asked = await house.until_asked(session)
        await house.holdfast.decide(session, asked["call"], approve=True, digest=asked["digest"], by="bob")
        await house.until_asked(session)
        assert activities(await house.history(session))["execute_call"] == 1


async def test_a_quick_read_that_settles_nothing_becomes_an_ordinary_one(
    open_house, config: str, runs: Runs
) -> None:
    async with open_house(HANGS, config=config, worker=WorkerSettings(cached_sessions=0)) as house:
        session = await house.start("glance", close_when_idle=True)
        await asyncio.wait_for(house.holdfast.result(session), 30)
        assert runs() == ["glance roof"] * 2
        assert activities(await house.history(session))["execute_call"] == 1
        outcomes = await house.rows("SELECT state FROM holdfast.effect WHERE kind = 'call'")
        assert [row["state"] for row in outcomes] == ["DONE"]
