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
from typing import Any, BinaryIO

import psutil
from pydantic import BaseModel, ConfigDict

from holdfast_workers.stack import launch
from holdfast_workers.stack.errors import StartFailed

LOG_TAIL_LINES = 15
LOG_TAIL_BYTES = 10_000
LOG_KEPT_BYTES = 10_000_000
PROBE_EVERY_S = 0.03
CLOCK_TOLERANCE_S = 5.0

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
    env: Mapping[str, str] = field(default_factory=dict)
    inherit_env: bool = True  # `env` is added to the supervisor's own environment
    cwd: Path | None = None
    ready: Probe | None = None  # None: ready as soon as it runs
    ready_within_s: float = 30.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_s: float = 10.0
    user: User | None = None
    private: bool = False  # the files it makes are for its own user only


class ProcessIdentity(BaseModel):
    """A running process as a later command can recognise it, and how it wants to be stopped."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    create_time: float  # seconds since the epoch, by psutil
    program: str  # one of the words of its command line
    stop_signal: int = signal.SIGTERM
    restarts: int = 0

    @classmethod
    def of_this_process(cls, name: str) -> ProcessIdentity:
        """The identity of the caller."""
        me = psutil.Process()
        return cls(name=name, pid=me.pid, create_time=me.create_time(), program=me.cmdline()[0])

    def process(self) -> psutil.Process | None:
        """The live process, or None if it ended, even if its pid was given to another one."""
        try:
            found = psutil.Process(self.pid)
            if found.status() == psutil.STATUS_ZOMBIE:
                return None
            # Seconds of tolerance: the clock may have been set meanwhile. Nobody gets our pid that soon.
            same = abs(found.create_time() - self.create_time) < CLOCK_TOLERANCE_S
            return found if same and self.program in found.cmdline() else None
        except psutil.NoSuchProcess:
            return None
        except psutil.AccessDenied:
            return None  # another user's, so not one that we started


class ChildProcess:
    """A started process."""

    def __init__(
        self, spec: ProcessSpec, log_file: Path, identity: ProcessIdentity, process: asyncio.subprocess.Process
    ) -> None:
        self.spec = spec
        self.identity = identity
        self._log_file = log_file
        self._process = process

    @classmethod
    async def spawn(cls, spec: ProcessSpec, log_file: Path) -> ChildProcess:
        """Start `spec`; `until_ready` tells when it answers."""
        user = f"{spec.user.uid}:{spec.user.gid}" if spec.user else "-"
        with open_log(log_file) as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launch.__file__),
                *(str(int(spec.stop_signal)), user, "--"),
                *spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=spec.cwd,
                umask=0o077 if spec.private else -1,
                env={**(os.environ if spec.inherit_env else {}), **spec.env},
                # A Ctrl-C in the terminal is for the supervisor, which stops the others in order.
                start_new_session=True,
            )
        identity = ProcessIdentity(
            name=spec.name,
            pid=process.pid,
            create_time=created_at(process.pid),
            program=spec.argv[0],
            stop_signal=spec.stop_signal,
        )
        return cls(spec, log_file, identity, process)

    async def until_ready(self) -> None:
        """Wait until its probe says ready; otherwise stop it and raise `StartFailed` with the end of its log."""
        try:
            await self._until_ready()
        except BaseException:
            await self.stop()
            raise

    async def _until_ready(self) -> None:
        if self.spec.ready is None:
            return
        deadline = time.monotonic() + self.spec.ready_within_s
        # Asked last: what answered may be another's server, on a port that ours did not get.
        while not await self.spec.ready() or self.returncode is not None:
            if self.returncode is not None:
                raise StartFailed(self.spec.name, f"ended with code {self.returncode}", tail(self._log_file))
            if time.monotonic() > deadline:
                reason = f"was not ready after {self.spec.ready_within_s:g} s"
                raise StartFailed(self.spec.name, reason, tail(self._log_file))
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
        kill_group(self.identity.pid)
        await self._process.wait()


def kill_group(leader: int) -> None:
    """Kill what a process of ours started itself: each of ours leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def created_at(pid: int) -> float:
    """Start time of our child `pid`, 0 if it is gone already."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def bare_environment() -> dict[str, str]:
    """What a server needs of our environment: no keys, no settings meant for clients."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "TZ") if name in os.environ}


def open_log(log_file: Path) -> BinaryIO:
    """Open a log for appending; one that grew large is put aside once."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    if log_file.exists() and log_file.stat().st_size > LOG_KEPT_BYTES:
        log_file.replace(log_file.with_suffix(".old.log"))
    return os.fdopen(os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def tail(log_file: Path, *, since: int = 0) -> str:
    """The last lines of a log after byte `since`, empty if there is none."""
    try:
        with log_file.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(since, end - LOG_TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])


async def together(*steps: Coroutine[Any, Any, None]) -> None:
    """Run `steps` side by side. The first one to fail cancels the others, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
