"""Fault points are where their names say, in their order, and only a worker made for tests has any."""

import inspect
import timeit

from holdfast_activities.execute_call import CallExecutions
from holdfast_activities.faults import ATTEMPT_POINTS, MODEL, SESSION, FaultPoint, no_faults
from holdfast_activities.model_turn import ModelTurns
from holdfast_workers.plugin import HoldfastPlugin
from holdfast_workers.temporal import connect_temporal
from holdfast_workers.work import open_work
from holdfast_workers.worker import build_worker, run
from tests.conftest import OpenHouse

SCRIPT = """
name: ping
description: One write.
example: ping
match: '^ping$'
turns:
  - calls: [{tool: ping, input: {}}]
  - text: done
"""
CONFIG = """
[agents.default]
tools = ["fault_point_bench:ping"]

[agents.default.policy]
allow = ["ping"]
"""
TOOL = """
from holdfast import Idempotent, Never, ToolContext, tool

@tool(tier="irreversible", recovery=Idempotent(), undo=Never("it rang"))
async def ping(ctx: ToolContext) -> str:
    "Ring."
    answer = await ctx.http.post("{url}/_faults", json=[])
    answer.raise_for_status()
    return ctx.idempotency_key
"""


async def test_an_opening_a_turn_and_a_call_pass_every_fault_point_in_order(open_house: OpenHouse) -> None:
    passed: list[tuple[FaultPoint, str]] = []
    async with open_house(SCRIPT, config=CONFIG, work=False) as house:
        (house.settings.home / "fault_point_bench.py").write_text(TOOL.replace("{url}", house.model.url))
        plugin = HoldfastPlugin(house.settings, faults=lambda point, of: passed.append((point, of)))
        temporal = await connect_temporal(house.settings.temporal, plugins=[plugin])
        async with build_worker(temporal, task_queue=house.settings.task_queue):
            session = await house.start("ping", close_when_idle=True)
            result = await house.holdfast.result(session)

    assert result.status == "completed"
    opening = (FaultPoint.AFTER_OPENING_BEFORE_TASK_COMPLETION, SESSION)
    assert passed == [opening, *((point, of) for of in (MODEL, "ping", MODEL) for point in ATTEMPT_POINTS)]


def test_production_has_none() -> None:
    for made in (CallExecutions, ModelTurns, HoldfastPlugin, run):
        assert inspect.signature(made).parameters["faults"].default is no_faults


async def test_a_worker_of_production_has_nothing_to_switch_on(open_house: OpenHouse) -> None:
    async with (
        open_house(work=False) as house,
        open_work(house.settings, house.temporal) as work,
    ):
        assert work.calls.surroundings.faults is no_faults


def test_the_fault_points_of_an_attempt_cost_production_under_20_microseconds() -> None:
    def attempt() -> None:
        for point in ATTEMPT_POINTS:
            no_faults(point, "ping")

    assert min(timeit.repeat(attempt, number=1000, repeat=20)) / 1000 < 20e-6
