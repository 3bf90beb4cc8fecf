"""A worker is killed while its tools are at work: what may run again does, and what may not is in doubt soon."""

from __future__ import annotations

from datetime import timedelta

import pytest

from holdfast_workers.worker import build_worker
from tests.conftest import QUICK
from tests.outages.conftest import OpenBench
from tests.waiting import until

LEASE = timedelta(seconds=3)
CONFIG = """
[effects]
lease = "3s"
renewal = "1s"
"""


@pytest.mark.timeout(150)
async def test_a_killed_tool_runs_again_if_its_class_allows_and_is_else_unknown_a_lease_later(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_bench(config=CONFIG, work=False) as bench:
        house = bench.house
        monkeypatch.setenv("HOLDFAST_SCRIPTED_MODEL", house.model.url)
        session = await house.start("both")
        async with bench.cli.process("worker", "start") as killed:
            await until(lambda: len(bench.runs) == 2, "both calls of a worker that has to start first", within=60)
            killed.kill()
            await killed.wait()
        bench.let_answer()
        async with build_worker(house.temporal, task_queue=house.settings.task_queue, settings=QUICK):
            [back] = await house.rows("SELECT clock_timestamp() AS at")
            await house.until(session, "held")

        effects = await house.rows("SELECT tool, state, settled_at FROM holdfast.effect WHERE kind = 'call'")
        states = {each["tool"]: each["state"] for each in effects}
        assert states["move"] == "UNKNOWN"
        assert sorted(bench.runs) == ["look parcel", "look parcel", "move parcel"]
        [unknown_at] = [each["settled_at"] for each in effects if each["tool"] == "move"]
        assert unknown_at - back["at"] < LEASE + timedelta(seconds=5)
