"""The benchmark at its smallest, on the suite's servers: it runs all sides, and its ratios are what it measured.

How fast anything is depends on the machine, so nothing here asks for a speed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from benchmarks.place import Place, model_service, workers
from benchmarks.results import Results, ratio, table
from benchmarks.rounds import Plan, measure
from holdfast_workers.stack.ports import free_port
from holdfast_workers.stack.processes import ChildProcess, ProcessSpec, together
from holdfast_workers.stack.runtime import Addresses

SMALLEST = Plan(rounds=1, sessions=2, turns=2, late_turn=4, pieces=5, many_viewers=2)


@pytest.fixture
async def place(servers, database, tmp_path: Path) -> AsyncIterator[Place]:
    """A worker of each kind and the model, as processes beside the suite's servers."""
    model, port = model_service(), free_port()
    addresses = Addresses(
        temporal=servers.temporal_address,
        namespace=servers.namespace,
        temporal_http=servers.temporal_http_url,
        ui="",
        migrate_dsn=database.owner_dsn,
        app_dsn=database.dsn,
        auditor_dsn=database.dsn,
        services={"model": model.url(port)},
    )
    pids: dict[str, int] = {}
    async with AsyncExitStack() as running:

        async def start(spec: ProcessSpec) -> None:
            process = await ChildProcess.spawn(spec, tmp_path / "logs" / f"{spec.name}.log")
            running.push_async_callback(process.stop)
            await process.until_ready()
            pids[spec.name.removesuffix("-worker")] = process.identity.pid

        await together(*(start(spec) for spec in (model.spec(port), *workers(tmp_path, addresses))))
        yield Place(home=tmp_path, addresses=addresses, pids=pids)


async def test_the_smallest_run_measures_every_number(place: Place) -> None:
    told: list[str] = []
    found = await measure(place, SMALLEST, told.append)

    assert Results.model_validate(json.loads(found.model_dump_json())) == found
    own, bare, inline = found.holdfast, found.bare, found.inline
    assert found.throughput_ratio == close(own.sessions_per_s.median / bare.sessions_per_s.median)
    assert found.lone_latency_ratio == close(own.lone_turn_ms.median / bare.lone_turn_ms.median)
    assert found.loaded_latency_ratio == close(own.loaded_turn_ms.median / bare.loaded_turn_ms.median)
    assert found.throughput_ratio_inline == close(inline.sessions_per_s.median / bare.sessions_per_s.median)
    for side in (own, bare, inline):
        assert side.sessions_per_s.median > 0
        assert 0 < side.lone_turn_ms.median < 10_000
        assert side.all_cpu_ms_per_turn.median >= side.cpu_ms_per_turn.median
    assert 0 < found.events_per_turn_inline < found.events_per_turn <= 12
    assert 0 < found.bytes_per_turn_at_10 <= 4096
    assert 0 < found.bytes_per_turn_late <= 4096
    assert found.statements_per_turn["claim_effect"] == 2
    assert found.round_trips_per_turn >= 4
    assert 0 < found.chunk_ms_p50 < 10_000
    assert 0 < found.chunk_ms_p50_many < 10_000
    assert found.machine.cores > 0
    assert len(told) == 6
    assert table(found).row_count > 10


def close(ratio_of_medians: float) -> object:
    """With one round the ratio is that of the two sides, which the file rounds on its own."""
    return pytest.approx(ratio_of_medians, rel=0.01, abs=0.002)


def test_a_ratio_compares_rounds_not_their_medians() -> None:
    assert ratio([(1, 2), (30, 40), (4, 4)]) == 0.75
