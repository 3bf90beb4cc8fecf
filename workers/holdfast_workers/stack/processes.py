"""One child process of the stack: started through `launch`, logged to a file, watched, stopped.

A process is named by pid and start time together: a pid alone may belong to somebody else by now.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel, ConfigDict

from holdfast_workers.stack import launch
from holdfast_workers.stack.errors import StartFailed

LOG_TAIL_LINES = 15
LOG_KEPT_BYTES = 10_000_000
PROBE_EVERY_S = 0.03

Probe = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True)
class User:
    """The operating system user a process runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """How to start a process, tell that it is ready, and stop it."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)  # added to the supervisor's own environment
    cwd: Path | None = None
    ready: Probe | None = None  # None: ready as soon as it runs
    ready_within_s: float = 30.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_s: float = 10.0
    user: User | None = None


class ProcessIdentity(BaseModel):
    """A running process as a later command can recognise it."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    create_time: float  # seconds since the epoch, by psutil

    @classmethod
    def of(cls, name: str, pid: int) -> ProcessIdentity:
        """Identity of a live process. Raises `psutil.NoSuchProcess`."""
        return cls(name=name, pid=pid, create_time=psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The live process, or None if it ended, even if its pid was given to another one."""
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.create_time) < 0.5
            alive = same and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return found if alive else None


class ChildProcess:
    """A started process. `start` returns when it is ready; `wait` when it ended."""

    def __init__(
        self, spec: ProcessSpec, identity: ProcessIdentity, process: asyncio.subprocess.Process
    ) -> None:
        self.spec = spec
        self.identity = identity
        self._process = process

    @classmethod
    async def start(cls, spec: ProcessSpec, log_file: Path) -> ChildProcess:
        """Start `spec` and wait until its probe says ready.

        Raises `StartFailed` with the end of its log, having stopped it.
        """
        child = await cls._spawn(spec, log_file)
        try:
            await child._until_ready(log_file)
        except BaseException:
            await child.stop()
            raise
        return child

    @classmethod
    async def _spawn(cls, spec: ProcessSpec, log_file: Path) -> ChildProcess:
        user = f"{spec.user.uid}:{spec.user.gid}" if spec.user else "-"
        log_file.parent.mkdir(parents=True, exist_ok=True)
        if log_file.exists() and log_file.stat().st_size > LOG_KEPT_BYTES:
            log_file.replace(log_file.with_suffix(".old.log"))
        with log_file.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launch.__file__),
                *(str(int(spec.stop_signal)), user, "--"),
                *spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=spec.cwd,
                env={**os.environ, **spec.env},
                # A Ctrl-C in the terminal is for the supervisor, which stops the others in order.
                start_new_session=True,
            )
        return cls(spec, ProcessIdentity.of(spec.name, process.pid), process)

    async def _until_ready(self, log_file: Path) -> None:
        if self.spec.ready is None:
            return
        deadline = time.monotonic() + self.spec.ready_within_s
        while not await self.spec.ready():
            if self.returncode is not None:
                raise StartFailed(self.spec.name, f"ended with code {self.returncode}", tail(log_file))
            if time.monotonic() > deadline:
                reason = f"was not ready after {self.spec.ready_within_s:g} s"
                raise StartFailed(self.spec.name, reason, tail(log_file))
            await asyncio.sleep(PROBE_EVERY_S)

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait until it ends, whoever ends it."""
        return await self._process.wait()

    async def stop(self) -> None:
        """Ask it to end, wait as long as its spec allows, then kill its process group."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self.spec.stop_signal)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), self.spec.stop_within_s)
        # What it started itself is in its process group, and goes with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.identity.pid, signal.SIGKILL)
        await self._process.wait()


def tail(log_file: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a log, empty if there is none."""
    try:
        text = log_file.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


async def together(*steps: Coroutine[Any, Any, None]) -> None:
    """Run `steps` side by side. The first one to fail cancels the others, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
