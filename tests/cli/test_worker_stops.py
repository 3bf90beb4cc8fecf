"""`worker start` that is told to end: what runs finishes, or is handed over when it is told again."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from holdfast_workers.pollers import polled
from holdfast_workers.stack.ports import free_port
from holdfast_workers.stack.probes import http_probe
from holdfast_workers.stopping import ONE_WISH_S
from holdfast_workers.worker import build_worker
from tests.cli.conftest import Cli, point_at
from tests.conftest import QUICK, House, OpenHouse
from tests.waiting import until

STARTS_WITHIN_S = 60.0
STORY = """
name: story
description: Tells a story, with a pause in the middle.
example: a story please
match: story
turns:
  - text: Once upon a time there was a model that told a long story to nobody in particular.
    faults: [{{kind: stall, seconds: {seconds}, after_events: 6, times: 1}}]
"""


@asynccontextmanager
async def telling(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """A session whose model call is under way in a worker process."""
    house = cli.house
    point_at(house, tmp_path, monkeypatch)
    monkeypatch.setenv("HOLDFAST_SCRIPTED_MODEL", house.model.url)
    session = await house.start("a story please")
    async with cli.process("worker", "start") as worker:

        async def heard() -> bool:
            assert worker.returncode is None
            return bool(await house.rows("SELECT 1 FROM holdfast.chunk"))

        await until(heard, "the first words", within=STARTS_WITHIN_S)
        yield session, worker


async def answers(house: House, session: str) -> list[str]:
    rows = await house.rows(
        "SELECT t.stop_reason FROM holdfast.turn t JOIN holdfast.session s USING (session_key) WHERE s.id = $1",
        session,
    )
    return [row["stop_reason"] for row in rows]


async def said(worker: asyncio.subprocess.Process, words: str) -> None:
    """Wait for a line of its log."""
    assert worker.stderr is not None
    async with asyncio.timeout(STARTS_WITHIN_S):
        async for line in worker.stderr:
            if words in line.decode():
                return
    raise AssertionError(f"it ended without `{words}`")


async def test_a_model_call_that_runs_when_a_worker_is_told_to_end_is_finished_and_paid_once(
    open_house: OpenHouse, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(STORY.format(seconds=1), work=False) as house:
        async with telling(Cli(house, capsys), tmp_path, monkeypatch) as (session, worker):
            worker.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(worker.wait(), STARTS_WITHIN_S) == 0
        assert await answers(house, session) == ["end_turn"]
        async with build_worker(house.temporal, task_queue=house.settings.task_queue, settings=QUICK):
            await house.until(session, "idle")
        assert house.model.count == 1


async def test_a_second_signal_hands_a_model_call_over_from_its_own_queue_too(
    open_house: OpenHouse, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = f'[queues]\nmodel = "model-{secrets.token_hex(4)}"\n'
    async with open_house(STORY.format(seconds=600), config=config, work=False) as house:
        async with telling(Cli(house, capsys), tmp_path, monkeypatch) as (session, worker):
            worker.send_signal(signal.SIGTERM)
            await said(worker, "a second signal hands it over")
            await asyncio.sleep(ONE_WISH_S + 0.1)  # what comes sooner is taken for the same
            worker.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(worker.wait(), STARTS_WITHIN_S) == 0
        assert await answers(house, session) == []
        async with build_worker(house.temporal, task_queue=house.settings.task_queue, settings=QUICK):
            await house.until(session, "idle")
        assert (await answers(house, session), house.model.count) == (["end_turn"], 2)


async def test_processes_of_one_worker_are_healthy_once_all_of_them_poll(idle_cli: Cli) -> None:
    house, port = idle_cli.house, free_port()
    healthy = http_probe(f"http://127.0.0.1:{port}/healthz")
    async with idle_cli.process("worker", "start", "--processes", "2", "--health-port", str(port)) as parent:
        await until(healthy, "both to be ready", within=STARTS_WITHIN_S)

        async def listed() -> bool:  # Temporal tells of a poll later, by over ten seconds where it was busy
            return await polled(house.temporal, house.settings.task_queue) == 2

        await until(listed, "both to be among the pollers", within=40.0)
        parent.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(parent.wait(), STARTS_WITHIN_S) == 0
