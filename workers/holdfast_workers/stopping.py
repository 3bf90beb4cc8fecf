"""How a worker process ends: a first signal lets what runs finish, a second hands it over to other workers."""

from __future__ import annotations

import asyncio
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ONE_WISH_S = 0.5
"""Signals nearer than this are one: a Ctrl-C reaches a process from its terminal and from whoever started it, and
the kernel tells of a killed parent once for each of its threads."""


@dataclass
class Stop:
    """What this process was told by signals."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: asyncio.Event = field(default_factory=asyncio.Event)
    _heard: float = -math.inf

    def hear(self) -> None:
        now = time.monotonic()
        if now - self._heard >= ONE_WISH_S:
            self._heard = now
            (self.at_once if self.asked.is_set() else self.asked).set()


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Listen to SIGTERM and SIGINT for the length of the block."""
    loop, stop = asyncio.get_running_loop(), Stop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop.hear)
    try:
        yield stop
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


class HandOver(Interceptor):
    """Knows what runs in this process, and asks it to stop: claims are released, and other workers go on.

    A write that was sent already still finishes and is recorded.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._handed_over = False

    def __len__(self) -> int:
        return len(self._running)

    def __call__(self) -> None:
        self._handed_over = True
        for each in self._running:
            each.cancel()

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Inbound(next, self)

    async def run(self, next: ActivityInboundInterceptor, input: ExecuteActivityInput) -> Any:
        """Raises `ApplicationError`, retryable, where the attempt was handed over."""
        current = asyncio.current_task()
        assert current is not None
        if self._handed_over:
            raise _elsewhere()
        self._running.add(current)
        try:
            return await next.execute_activity(input)
        except asyncio.CancelledError:
            if self._handed_over and activity.cancellation_details() is None:
                raise _elsewhere() from None
            raise
        finally:
            self._running.discard(current)


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, hand_over: HandOver) -> None:
        super().__init__(next)
        self._hand_over = hand_over

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        return await self._hand_over.run(self.next, input)


def _elsewhere() -> ApplicationError:
    return ApplicationError("its worker was told to end at once: another one goes on", type="handed_over")
