"""Processes that are lost on purpose: workers, started again at once, and servers, started again when told to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import psutil

from holdfast_workers.stack.errors import StackError
from holdfast_workers.stack.processes import ChildProcess, ProcessSpec

AGAIN_AFTER_S = 0.3


class Server:
    """One server process, which comes back with the same port and the same data."""

    def __init__(self, spec: ProcessSpec, log: Path) -> None:
        self._spec = spec
        self._log = log
        self._child: ChildProcess | None = None

    async def start(self) -> None:
        self._child = await ChildProcess.spawn(self._spec, self._log)
        await self._child.until_ready()

    async def stop(self, number: signal.Signals | None = None) -> None:
        """End it in order, or with a signal of its own."""
        if self._child is None:
            return
        if number is not None and self._child.returncode is None:
            send(self._child.identity.pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._child.wait(), self._spec.stop_within_s)
        await self._child.stop()
        self._child = None

    def pids(self) -> list[int]:
        """It and all its children."""
        if self._child is None:
            return []
        try:
            process = psutil.Process(self._child.identity.pid)
            return [process.pid, *(child.pid for child in process.children(recursive=True))]
        except psutil.NoSuchProcess:
            return []


class Worker:
    """One worker's place: whenever its process ends, another one takes it."""

    def __init__(self, spec: ProcessSpec, log: Path) -> None:
        self._spec = spec
        self._log = log
        self._child: ChildProcess | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._serving = False
        self.frozen = False

    @property
    def pid(self) -> int | None:
        """Of the process that serves now; None between two lives."""
        if self._child is None or self._child.returncode is not None or not self._serving:
            return None
        return self._child.identity.pid

    async def start(self) -> None:
        await self._live()
        self._keeping = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._child is not None:
            self.thaw()
            await self._child.stop()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int | None:
        """Send the signal to whoever serves; returns its pid."""
        pid = self.pid
        if pid is not None:
            send(pid, number)
        return pid

    def thaw(self) -> None:
        if self._child is not None and self._child.returncode is None:
            send(self._child.identity.pid, signal.SIGCONT)
        self.frozen = False

    async def _live(self) -> None:
        self._child = await ChildProcess.spawn(self._spec, self._log)
        await self._child.until_ready()
        self._serving = True

    async def _keep(self) -> None:
        while True:
            assert self._child is not None
            await self._child.wait()
            self._serving = self.frozen = False
            await asyncio.sleep(AGAIN_AFTER_S)
            with contextlib.suppress(StackError):  # a server it needs is away: once more
                await self._live()


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may just have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
