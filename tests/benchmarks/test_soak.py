"""The soak at its smallest: 60 messages over some runs of the workflow, answered once each. It asks no speed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from benchmarks.soak import CONFIG, Plan, measure
from benchmarks.soak_results import Results, table
from holdfast_workers.stack.servers import embedded_servers

SMALLEST = Plan(messages=60, alone=3, queued=10)


@pytest.fixture
async def impatient(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Address of a Temporal that suggests to continue as new after 100 events."""
    low = ("--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=100")
    async with embedded_servers(tmp_path_factory.mktemp("low"), temporal_args=low) as servers:
        yield servers.temporal_address


@pytest.mark.timeout(180)  # on a loaded machine
async def test_every_message_is_answered_once_and_in_order_across_continue_as_new(
    one_worker_of, impatient: str
) -> None:
    told: list[str] = []
    async with one_worker_of(CONFIG, temporal=impatient) as worker:
        found = await measure(worker, SMALLEST, told.append)

    assert Results.model_validate(json.loads(found.model_dump_json())) == found
    assert found.answered_once_in_order == 60
    assert found.runs >= 3
    assert found.early.events_per_message > 0
    assert found.early.carried > 0
    assert found.verified_entries >= 60
    assert len(told) == len(found.stages)
    assert table(found).row_count > 5
