"""The stack as `holdfast up` starts it, with one worker that a benchmark may lose, and start again the same way."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.place import Place, model_service, supervised
from holdfast_workers.embedded import Embedded, migrate
from holdfast_workers.settings import ModelSettings
from holdfast_workers.stack.plan import StackPlan
from holdfast_workers.stack.processes import ChildProcess
from holdfast_workers.stack.runtime import Addresses

MB = 1_000_000
QUEUE = "bench-one"


class OneWorker:
    """`holdfast worker start` as a process of its own, with the agents of `config`."""

    def __init__(self, home: Path, addresses: Addresses, config: str) -> None:
        path = home / "holdfast.toml"
        path.write_text(config)
        self.place = Place(home=home, addresses=addresses, pids={})
        self._log = home / "logs" / "worker.log"
        self._embedded = Embedded(home=home, config=path, task_queue=QUEUE, model=ModelSettings())
        self._running: ChildProcess | None = None
        self._spent_s = 0.0
        """CPU of those that were lost."""
        self.ready_at = 0.0
        """When the one that runs now began to poll, in seconds since the epoch."""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[OneWorker]:
        """It runs for the length of the block. Raises `StackError` if it does not start."""
        try:
            await self.start()
            yield self
        finally:
            if self._running is not None:
                await self._running.stop()

    async def start(self) -> None:
        """Start it, and wait until it polls."""
        spec = self._embedded.worker_spec(1, self.place.addresses, os.environ)
        self._running = await ChildProcess.spawn(spec, self._log)
        await self._running.until_ready()
        self.ready_at = time.time()

    async def lose(self) -> None:
        """`kill -9`."""
        assert self._running is not None
        self._spent_s = self.cpu_s
        os.kill(self._running.identity.pid, signal.SIGKILL)
        await self._running.wait()

    @property
    def rss_mb(self) -> float:
        return float(self._process.memory_info().rss) / MB

    @property
    def cpu_s(self) -> float:
        """User and system time, of those that were lost, too."""
        with suppress(psutil.NoSuchProcess):
            times = self._process.cpu_times()
            return self._spent_s + float(times.user + times.system)
        return self._spent_s

    @property
    def _process(self) -> psutil.Process:
        assert self._running is not None
        return psutil.Process(self._running.identity.pid)


@asynccontextmanager
async def one_worker(config: str) -> AsyncIterator[OneWorker]:
    """Everything in a directory of its own, stopped and removed after the block. Raises `StackError`."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as directory:
        home = Path(directory)
        os.chmod(directory, 0o755)  # as root, PostgreSQL runs as another user
        plan = StackPlan(home=home, migrate=migrate, services=(model_service(),), workers=lambda addresses: ())
        async with supervised(plan) as stack, OneWorker(home, stack.addresses, config).serving() as worker:
            yield worker


class Stalled(Exception):
    """What should have happened did not, for a long time."""


async def until(
    reached: Callable[[], Awaitable[bool]], what: str, *, within_s: float, every_s: float = 0.2
) -> None:
    """Wait for a condition. Raises `Stalled`, saying `what` was waited for."""
    deadline = time.monotonic() + within_s
    while not await reached():
        if time.monotonic() > deadline:
            raise Stalled(f"waited {within_s:g} s for {what}")
        await asyncio.sleep(every_s)
