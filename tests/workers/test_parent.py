"""Several worker processes under one parent: it passes signals on, hides no death, and leaves none behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from holdfast_workers.capacity import WorkerSettings
from holdfast_workers.settings import SettingsError
from holdfast_workers.stopping import ONE_WISH_S
from tests.waiting import until

WITHIN_S = 30.0
CHILD = """
import os, signal, sys, time
from pathlib import Path

mine = Path(sys.argv[1]) / str(os.getpid())
heard = []
signal.signal(signal.SIGTERM, lambda *_: (heard.append(1), mine.write_text(str(len(heard)))))
mine.write_text("0")
while len(heard) < int(sys.argv[2]):
    time.sleep(0.01)
"""
PARENT = """
import asyncio, sys
from holdfast_workers.parent import ProcessEnded, run_processes

try:
    asyncio.run(run_processes((sys.executable, *sys.argv[1:]), 2))
except ProcessEnded as error:
    sys.exit(str(error))
"""


def alive(pid: int) -> bool:
    """A zombie, which nobody may ever reap in a container, is not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Family:
    """A parent of two processes, each of which writes how many signals it has heard into a file of its pid."""

    def __init__(self, parent: asyncio.subprocess.Process, place: Path) -> None:
        self.parent = parent
        self._place = place

    @property
    def heard(self) -> dict[int, str]:
        return {int(file.name): file.read_text() for file in self._place.iterdir()}

    async def until_heard(self, count: str) -> None:
        await until(lambda: [*self.heard.values()] == [count, count], f"{count} signals", within=WITHIN_S)

    async def ended(self) -> tuple[int | None, str]:
        """Exit code and last words of the parent, once none of its children is left."""
        _, err = await asyncio.wait_for(self.parent.communicate(), WITHIN_S)
        await until(lambda: not any(map(alive, self.heard)), "the end of both", within=WITHIN_S)
        return self.parent.returncode, err.decode()


@asynccontextmanager
async def family(place: Path, *, signals: int) -> AsyncIterator[Family]:
    """Two processes that end once they have heard so many signals."""
    words = (PARENT, "-c", CHILD, str(place), str(signals))
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", *words, stderr=asyncio.subprocess.PIPE)
    started = Family(parent, place)
    try:
        await started.until_heard("0")
        yield started
    finally:
        for pid in [pid for pid in started.heard if alive(pid)]:
            os.kill(pid, signal.SIGKILL)
        if parent.returncode is None:
            parent.kill()
            await parent.communicate()


async def test_each_signal_is_passed_on_and_all_end_in_peace(tmp_path: Path) -> None:
    async with family(tmp_path, signals=2) as started:
        started.parent.send_signal(signal.SIGTERM)
        await started.until_heard("1")
        await asyncio.sleep(ONE_WISH_S + 0.1)  # what comes sooner is taken for the same
        started.parent.send_signal(signal.SIGINT)
        assert await started.ended() == (0, "")


async def test_a_process_that_dies_takes_the_others_with_it_and_is_named(tmp_path: Path) -> None:
    async with family(tmp_path, signals=1) as started:
        killed, other = started.heard
        os.kill(killed, signal.SIGKILL)
        code, said = await started.ended()
        assert code == 1
        assert f"(pid {killed}) ended with code -9, and so the other 1 were stopped" in said
        assert started.heard[other] == "1"


async def test_processes_finish_and_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    async with family(tmp_path, signals=1) as started:
        started.parent.kill()
        assert (await started.ended())[0] == -signal.SIGKILL
        assert all(int(count) >= 1 for count in started.heard.values())  # once for each thread that the parent had


def test_auto_means_one_process_for_each_two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = WorkerSettings.from_env({"HOLDFAST_WORKER_PROCESSES": "auto"})
    for cores, processes in ((1, 1), (2, 1), (3, 1), (64, 32)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert chosen.process_count == processes
    with pytest.raises(SettingsError, match="`HOLDFAST_WORKER_PROCESSES` cannot be '0'"):
        WorkerSettings.from_env({"HOLDFAST_WORKER_PROCESSES": "0"})
