"""A workflow task is lost after it told the ledger: its successor decides anew, and may tell other facts."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from holdfast_activities.faults import SESSION, FaultPoint
from holdfast_workers.chaos.armed import Armed, Armory
from holdfast_workers.plugin import HoldfastPlugin
from holdfast_workers.stack.ports import free_port
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


@pytest.fixture
def faults(tmp_path: Path) -> Path:
    """The directory of armed fault points."""
    path = tmp_path / "armed"
    path.mkdir()
    return path


@pytest.mark.timeout(90)
async def test_a_session_goes_on_after_its_task_was_lost_and_a_person_decided_meanwhile(
    open_house: OpenHouse, faults: Path
) -> None:
    async with open_house(SCRIPT, config=CONFIG, work=False) as house:
        (house.settings.home / "lost_task_bench.py").write_text(TOOL)
        session = await house.start("ring", close_when_idle=True)
        await die_at(FaultPoint.AFTER_FLUSH_BEFORE_TASK_COMPLETION, house, faults)
        first = await house.until_asked(session)
        payload = {"call": first["call"], "digest": first["digest"], "by": "bob"}
        await house.handle(session).signal("deny", payload)

        temporal = await connect_temporal(house.settings.temporal, plugins=[HoldfastPlugin(house.settings)])
        async with build_worker(temporal, task_queue=house.settings.task_queue):
            second = await until_second(house, session)
            await house.holdfast.decide(session, "2.1", approve=True, digest=second, by="ann")
            result = await asyncio.wait_for(house.holdfast.result(session), 20)

    assert result.status == "completed"


@pytest.mark.timeout(90)
async def test_a_session_whose_first_task_was_lost_is_opened_once_and_asks_the_model_once(
    open_house: OpenHouse, faults: Path
) -> None:
    async with open_house(config="", work=False) as house:
        session = await house.start("hello", close_when_idle=True)
        await die_at(FaultPoint.AFTER_OPENING_BEFORE_TASK_COMPLETION, house, faults)
        assert [entry["kind"] for entry in await house.entries(session)] == ["session_opened"]

        temporal = await connect_temporal(house.settings.temporal, plugins=[HoldfastPlugin(house.settings)])
        async with build_worker(temporal, task_queue=house.settings.task_queue):
            result = await asyncio.wait_for(house.holdfast.result(session), 40)
        opened = [entry for entry in await house.entries(session) if entry["kind"] == "session_opened"]

    assert (result.status, len(opened), house.model.count) == ("completed", 1, 1)


async def die_at(point: FaultPoint, house: House, faults: Path) -> None:
    """Let a worker work until it told the ledger; Temporal never hears of it."""
    Armory(faults).arm(Armed(1, point, SESSION, "crash"))
    settings = house.settings
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "holdfast_workers.chaos.worker"),
        *("--health-port", str(free_port()), "--faults", str(faults)),
        env={
            **os.environ,
            "HOLDFAST_HOME": str(settings.home),
            "HOLDFAST_CONFIG": str(settings.config),
            "HOLDFAST_DSN": str(settings.dsn),
            "HOLDFAST_TASK_QUEUE": settings.task_queue,
            "HOLDFAST_SCRIPTED_MODEL": str(settings.model.base_url),
            "TEMPORAL_ADDRESS": str(settings.temporal.address),
            "TEMPORAL_NAMESPACE": str(settings.temporal.namespace),
            "TEMPORAL_CONFIG_FILE": "/dev/null",
        },
    )
    assert await asyncio.wait_for(worker.wait(), 30) == -9


async def until_second(house: House, session: str) -> str:
    """The digest of the second call, once a person is asked about it."""
    async with asyncio.timeout(40):
        while True:
            asked = await house.holdfast.reader.approvals(session_id=session)
            if asked and asked[0].call == "2.1":
                return asked[0].digest
            await asyncio.sleep(0.05)
