"""The benchmark at its smallest, on the suite's servers: it runs all sides, and its ratios are what it measured.

How fast anything is depends on the machine, so nothing here asks for a speed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from benchmarks.billing import actions
from benchmarks.model import BYTES_PER_TOKEN
from benchmarks.place import Place, model_service, workers
from benchmarks.plots import draw
from benchmarks.results import Range, Results, ratio
from benchmarks.rounds import Found, Plan, measure
from benchmarks.tables import BEGIN, END, grids, markdown
from benchmarks.tools import PAGE
from benchmarks.turns import DOCS, publish
from holdfast_workers.stack.ports import free_port
from holdfast_workers.stack.processes import ChildProcess, ProcessSpec, together
from holdfast_workers.stack.runtime import Addresses

SMALLEST = Plan(
    rounds=1,
    sessions=2,
    turns=2,
    alone=1,
    settle_s=0,
    late_turn=4,
    around=1,
    idle_sessions=2,
    pieces=5,
    many_viewers=2,
)


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


@pytest.mark.timeout(180)  # a worker of each kind, and 40 turns one after the other
async def test_the_smallest_run_measures_every_number(place: Place, tmp_path: Path) -> None:
    told: list[str] = []
    measured = await measure(place, SMALLEST, told.append)
    found = measured.results

    assert Results.model_validate_json(found.model_dump_json()) == found
    own, bare, inline = found.holdfast, found.bare, found.inline
    assert found.throughput_ratio == close(own.sessions_per_s.median / bare.sessions_per_s.median)
    assert found.lone_latency_ratio == close(own.lone_turn_ms.median / bare.lone_turn_ms.median)
    assert found.throughput_ratio_inline == close(inline.sessions_per_s.median / bare.sessions_per_s.median)
    for side in (own, bare, inline):
        assert side.sessions_per_s.median > 0
        assert 0 < side.lone_turn_ms.median < 10_000
        assert side.longest_turn_ms.median >= side.loaded_turn_ms.median > 0
        assert side.all_cpu_ms_per_turn.median >= side.cpu_ms_per_turn.median
    assert bare.events_per_turn == 12
    assert 0 < found.events_per_turn_inline < found.events_per_turn <= 12
    assert found.postgres_bytes_per_turn >= 0  # in so small a burst its pages may have had room
    assert found.wal_bytes_per_turn > 1000
    assert found.statements_per_turn["claim_effect"] == 2
    assert found.postgres_round_trips_per_turn >= 4
    assert 0 < found.chunk_ms_p50 < 10_000
    assert 0 < found.chunk_ms_p50_many < 10_000
    assert found.machine.cores > 0
    assert len(found.machine.pace_ms) == len(found.machine.load) == 2 + SMALLEST.rounds
    assert all(each > 0 for each in found.machine.pace_ms)
    assert len(told) == 9
    assert_the_long_sessions_are_measured(measured)
    assert_all_is_shown(measured, tmp_path)


def assert_the_long_sessions_are_measured(measured: Found) -> None:
    found, turns = measured.results, SMALLEST.late_turn + SMALLEST.around
    for name, session in measured.long.items():
        assert [turn.number for turn in session.turns] == list(range(1, turns + 1))
        assert all(turn.total_ms > turn.build_ms + turn.ask_ms for turn in session.turns)
        assert found.long[name].turns == turns
        assert found.long[name].runs == 1
    full, window = found.long["full"], found.long["window"]
    assert full.tokens is not None
    assert full.tokens > turns * PAGE / BYTES_PER_TOKEN
    assert window.tokens == full.tokens  # too short to need room
    assert found.bytes_per_turn_at_10 == round(full.early.bytes.median)
    assert 0 < found.bytes_per_turn_at_10 <= 4096
    assert found.bytes_per_turn_at_1000 is None  # it never got there


def assert_all_is_shown(measured: Found, docs: Path) -> None:
    (docs / "images").mkdir()
    (docs / "performance.md").write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n")

    publish(measured, docs)

    text = (docs / "performance.md").read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"\n{END}\nafter\n")
    assert "stale" not in text
    assert markdown(measured.results) in text
    for grid in grids(measured.results):
        assert {len(row) for row in grid.rows} == {len(grid.columns)}
    plots = sorted((docs / "images").iterdir())
    assert [plot.name for plot in plots] == ["history-per-turn.svg", "overhead-per-turn.svg"]
    drawn = [plot.read_bytes() for plot in plots]
    draw(measured.long, docs / "images")
    assert [plot.read_bytes() for plot in plots] == drawn


def close(ratio_of_medians: float) -> object:
    """With one round the ratio is that of the two sides, which the file rounds on its own."""
    return pytest.approx(ratio_of_medians, rel=0.01, abs=0.002)


def test_the_document_has_a_place_for_the_tables() -> None:
    before, begin, rest = (DOCS / "performance.md").read_text().partition(BEGIN)

    assert before
    assert begin
    assert END in rest


def test_a_ratio_compares_rounds_not_their_medians() -> None:
    assert ratio([(1, 2), (30, 40), (4, 4)]) == Range(median=0.75, least=0.5, most=1.0)


def test_the_actions_that_temporal_cloud_bills_are_counted_from_events() -> None:
    started = HistoryEvent(event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
    tried_thrice = HistoryEvent(event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED)
    tried_thrice.activity_task_started_event_attributes.attempt = 3
    quick, other = (HistoryEvent(event_type=EventType.EVENT_TYPE_MARKER_RECORDED) for _ in range(2))
    quick.marker_recorded_event_attributes.workflow_task_completed_event_id = 4
    other.marker_recorded_event_attributes.workflow_task_completed_event_id = 9
    free = HistoryEvent(event_type=EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED)

    assert actions([started, tried_thrice, free]) == 4
    assert actions([quick, quick, other]) == 2  # local activities of one task are one action
    assert actions([started, quick, started, quick]) == 4  # the same task number in the next run
