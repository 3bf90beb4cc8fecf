"""The parent of several worker processes on one machine, each of which makes use of little more than one core.

Must hold: nobody is started again in silence. A process that ends takes the others with it, gracefully, so that the
supervisor above sees it and starts all of them anew; and none outlives its parent.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from holdfast.errors import HoldfastError
from holdfast_workers.health import serve_health
from holdfast_workers.stack import launch
from holdfast_workers.stack.ports import LOOPBACK, free_port
from holdfast_workers.stack.probes import http_probe
from holdfast_workers.stopping import Stop, stop_signals

LOOK_EVERY_S = 0.5
TELL_EVERY_S = 1.0
AS_TOLD = (0, -signal.SIGTERM)
"""How a process ends that was told to: by itself, or before it could listen."""

logger = logging.getLogger("holdfast.workers")


class ProcessEnded(HoldfastError):
    """A worker process ended by itself."""

    code = "internal"


@dataclass
class Child:
    """One worker process. `healthy` is what it answered when it was last asked."""

    number: int
    process: asyncio.subprocess.Process
    port: int | None
    healthy: bool = False

    @classmethod
    async def start(cls, number: int, argv: Sequence[str], *, health: bool) -> Child:
        port = free_port() if health else None
        process = await asyncio.create_subprocess_exec(
            # It is told to end when this parent is lost, and hears a Ctrl-C from the parent alone.
            *(sys.executable, "-I", "-S", launch.__file__, str(int(signal.SIGTERM)), "-", "--"),
            *(*argv, *(("--health-port", str(port)) if port else ())),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        return cls(number, process, port)

    @property
    def ended(self) -> bool:
        return self.process.returncode is not None

    def tell(self) -> None:
        """Once: finish what runs. Twice: hand it over."""
        if not self.ended:
            with suppress(ProcessLookupError):
                self.process.terminate()

    async def watch(self) -> None:
        probe = http_probe(f"http://{LOOPBACK}:{self.port}/healthz")
        while not self.ended:
            self.healthy = await probe()
            await asyncio.sleep(LOOK_EVERY_S)


async def run_processes(argv: Sequence[str], count: int, *, health_port: int | None = None) -> None:
    """Run the command line so many times, until SIGTERM or SIGINT; both are passed on.

    Args:
        argv: of one worker process; `--health-port` is added to it where health is served.

    Raises:
        ProcessEnded: one of them ended by itself; the others were told to finish, and have.
    """
    async with AsyncExitStack() as until_ended:
        stop = until_ended.enter_context(stop_signals())
        children = await until_ended.enter_async_context(_started(argv, count, health=health_port is not None))
        if health_port is not None:
            for child in children:
                until_ended.callback(asyncio.create_task(child.watch()).cancel)
            await until_ended.enter_async_context(
                serve_health(health_port, lambda: all(child.healthy for child in children))
            )
        ends = [asyncio.create_task(child.process.wait()) for child in children]
        await _until(stop.asked, ends, asyncio.FIRST_COMPLETED)
        early = [] if stop.asked.is_set() else [child for child in children if child.ended]
        await _ended(children, ends, stop)
        for child in (*early, *(child for child in children if child.process.returncode not in AS_TOLD)):
            raise ProcessEnded(
                f"Worker process {child.number} (pid {child.process.pid}) ended with code "
                f"{child.process.returncode}, and so the other {count - 1} were stopped; start all of them again."
            )


@asynccontextmanager
async def _started(argv: Sequence[str], count: int, *, health: bool) -> AsyncIterator[list[Child]]:
    """So many processes; whatever happens, none is left when the block ends."""
    children: list[Child] = []
    try:
        for number in range(1, count + 1):
            children.append(await Child.start(number, argv, health=health))
        yield children
    finally:
        for child in children:
            child.tell()
        await asyncio.gather(*(child.process.wait() for child in children))


async def _ended(children: Sequence[Child], ends: Sequence[asyncio.Task[int]], stop: Stop) -> None:
    """Tell all to finish, and wait for them; told again, tell them again."""
    logger.info("stopping the worker processes", extra={"running": sum(not child.ended for child in children)})
    for child in children:
        child.tell()
    await _until(stop.at_once, ends, asyncio.ALL_COMPLETED)
    while not all(child.ended for child in children):
        for child in children:
            child.tell()
        await asyncio.wait(ends, timeout=TELL_EVERY_S)  # a busy one takes two signals for one


async def _until(told: asyncio.Event, ends: Sequence[asyncio.Task[int]], how: str) -> None:
    """Until a signal has told, or the first or all of them have ended."""
    waiting = asyncio.create_task(told.wait())
    ending = asyncio.create_task(asyncio.wait(ends, return_when=how))
    await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    ending.cancel()
