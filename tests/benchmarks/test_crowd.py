"""The crowd at its smallest: all are acted on, also over the loss of the worker. It asks for no speed."""

from __future__ import annotations

import json

import pytest

from benchmarks.crowd import CONFIG, Plan, measure
from benchmarks.crowd_results import Delays, Results, table

SMALLEST = Plan(sessions=20, rate=20, seconds=0.25, warm_up=2, settle_s=0)


@pytest.mark.timeout(180)  # on a loaded machine; two workers start
async def test_a_crowd_that_waits_is_acted_on_also_after_the_worker_was_lost(one_worker_of) -> None:
    told: list[str] = []
    async with one_worker_of(CONFIG) as worker:
        found = await measure(worker, SMALLEST, told.append)

    assert Results.model_validate(json.loads(found.model_dump_json())) == found
    phases = (found.steady, found.restarted.phase, found.flood)
    assert [phase.delays.count for phase in phases] == [5, 5, 20]
    assert found.restarted.ready_after_s > 0
    assert found.restarted.from_ready.most <= found.restarted.phase.delays.most
    assert 0 < found.steady.delays.p50 <= found.steady.delays.most
    assert found.above_start_mb == round(found.memory.above_start, 1)
    assert found.verified == 2 + 20 + 10
    assert len(told) == 4
    assert table(found).row_count > 10


def test_each_bar_is_judged_by_the_slowest() -> None:
    assert Delays.of([0.1] * 999 + [7]).most == 7
