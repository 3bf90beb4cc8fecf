"""A workflow task is lost after its facts were told: its successor decides anew, and may tell other facts."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from temporalio.client import Client

from holdfast_activities.faults import FaultPoint
from holdfast_workers.plugin import HoldfastPlugin
from holdfast_workers.temporal import connect_temporal
from holdfast_workers.worker import build_worker
from tests.conftest import House, OpenHouse

SCRIPT = """
name: ring
description: Two writes that are asked about.
example: ring
match: '^ring$'
turns:
  - calls: [{tool: ring, input: {bell: front}}]
  - calls: [{tool: ring, input: {bell: back}}]
  - text: "{{ every.ring }}"
"""
CONFIG = """
[agents.default]
tools = ["lost_task_bench:ring"]
"""
TOOL = """
from holdfast import Never, Operator, tool

@tool(tier="irreversible", recovery=Operator(), undo=Never("it rang"))
def ring(bell: str) -> str:
    "Ring."
    return f"rang {bell}"
"""
LONGER_THAN_A_TASK_S = 11.0
"""Temporal gives a workflow task ten seconds."""


@pytest.mark.timeout(90)
async def test_a_session_goes_on_after_its_task_was_lost_and_a_person_decided_meanwhile(
    open_house: OpenHouse,
) -> None:
    lost = threading.Event()
    async with open_house(SCRIPT, config=CONFIG, work=False) as house:
        (house.settings.home / "lost_task_bench.py").write_text(TOOL)

        def lose_the_first(point: FaultPoint, of: str) -> None:
            """Stand still, as a frozen process does, while somebody denies the call that was just asked about."""
            if point is not FaultPoint.AFTER_FLUSH_BEFORE_TASK_COMPLETION or lost.is_set():
                return
            lost.set()
            denying = threading.Thread(target=lambda: asyncio.run(deny(house)))
            denying.start()
            time.sleep(LONGER_THAN_A_TASK_S)
            denying.join()

        plugin = HoldfastPlugin(house.settings, faults=lose_the_first)
        temporal = await connect_temporal(house.settings.temporal, plugins=[plugin])
        async with build_worker(temporal, task_queue=house.settings.task_queue):
            session = await house.start("ring", close_when_idle=True)
            second = await until_second(house, session)
            await house.holdfast.decide(session, "2.1", approve=True, digest=second, by="ann")
            result = await asyncio.wait_for(house.holdfast.result(session), 20)

    assert lost.is_set()
    assert result.status == "completed"


async def deny(house: House) -> None:
    """From a thread and an event loop of its own: the worker's stands still."""
    (session,) = await house.rows("SELECT id FROM holdfast.session")
    asked = await house.until_asked(session["id"])
    client = await Client.connect(str(house.settings.temporal.address))
    payload = {"call": asked["call"], "digest": asked["digest"], "by": "bob"}
    await client.get_workflow_handle(session["id"]).signal("deny", payload)


async def until_second(house: House, session: str) -> str:
    """The digest of the second call, once a person is asked about it."""
    async with asyncio.timeout(40):
        while True:
            asked = await house.holdfast.reader.approvals(session_id=session)
            if asked and asked[0].call == "2.1":
                return asked[0].digest
            await asyncio.sleep(0.05)
