"""Running a tool's function once: bounded by its timeout, stopped only where that is safe.

A coroutine that reads is cancelled when the attempt is to stop. A write is left to finish. A thread cannot be
cancelled at all: a read's is abandoned (`ToolContext.heartbeat` ends it), a write's is waited for a while longer.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from holdfast.tools import Tool
from holdfast_activities.calls.endings import TimedOut
from holdfast_activities.halt import Halt

CANCEL_GRACE = timedelta(seconds=2)
"""How long a cancelled coroutine may take to clean up."""
THREAD_GRACE = timedelta(seconds=15)
"""How much longer than its timeout a write in a thread may take: its true outcome beats a doubt."""


class Stopped(Exception):
    """A read was stopped on request."""


class Abandoned(Exception):
    """Nobody waits for this call any more."""


@dataclass(frozen=True)
class Leash:
    """Lets the thread of an abandoned call notice it."""

    _cut: threading.Event = field(default_factory=threading.Event)

    def cut(self) -> None:
        self._cut.set()

    def heartbeat(self) -> None:
        if self._cut.is_set():
            raise Abandoned("nobody waits for this call any more")


async def run(
    declared: Tool,
    arguments: Mapping[str, Any],
    *,
    timeout: timedelta,
    writes: bool,
    halt: Halt,
    leash: Leash,
    threads: ThreadPoolExecutor,
) -> Any:
    """Call the function and return what it returns.

    Raises:
        TimedOut: it took longer than `timeout`.
        Stopped: a read, after `halt` was called.
        Exception: whatever the function raises.
    """
    running: asyncio.Task[Any] = asyncio.create_task(_call(declared.fn, arguments, threads, declared.is_async))
    awaited: set[asyncio.Future[Any]] = {running} if writes else {running, halt.called}
    await asyncio.wait(awaited, timeout=timeout.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        await _wind_up(running, writes=writes, is_async=declared.is_async, leash=leash)
    if running.done() and not running.cancelled():
        return _result(running)
    if halt.reason is not None and not writes:
        raise Stopped
    raise TimedOut


async def _call(
    fn: Callable[..., Any], arguments: Mapping[str, Any], threads: ThreadPoolExecutor, is_async: bool
) -> Any:
    if is_async:
        return await fn(**arguments)
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    value = await loop.run_in_executor(threads, partial(context.run, partial(fn, **arguments)))
    return await value if inspect.isawaitable(value) else value


async def _wind_up(running: asyncio.Task[Any], *, writes: bool, is_async: bool, leash: Leash) -> None:
    """Past its time, or to be stopped: end what can be ended; wait for what a write turns out to be."""
    if is_async:
        running.cancel()
        await asyncio.wait({running}, timeout=CANCEL_GRACE.total_seconds())
    elif writes:
        await asyncio.wait({running}, timeout=THREAD_GRACE.total_seconds())
    if not running.done():
        leash.cut()
        running.add_done_callback(_forget)


def _result(running: asyncio.Task[Any]) -> Any:
    error = running.exception()
    if error is None:
        return running.result()
    if isinstance(error, Exception):
        raise error
    raise RuntimeError(f"the tool raised {type(error).__name__}") from error  # SystemExit must not end the worker


def _forget(running: asyncio.Task[Any]) -> None:
    if not running.cancelled():
        running.exception()
