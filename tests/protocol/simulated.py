"""Workers that can die or stall at any step of the effect protocol, and the service whose count is the oracle.

A process is one worker's attempt: it runs the real activity over the real ledger. A crash ends all of its tasks at
a named point; no handler of the product sees it. A stall keeps it alive there, while its monotonic clock goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import asyncpg
from temporalio.activity import ActivityCancellationDetails
from temporalio.testing import ActivityEnvironment

from holdfast.contracts import CallOutcome, ExecuteCall
from holdfast_ledger.database import Database

BEFORE_CLAIM = "before the claim commits"
AFTER_CLAIM = "after the claim commits"
BEFORE_EFFECT = "after dispatch, before the service commits"
AFTER_EFFECT = "after the service commits, before its response"
BEFORE_RECORD = "before the record commits"
AFTER_RECORD = "after the record commits"
BEFORE_COMPLETION = "before the activity completes"

STEPS = (
    BEFORE_CLAIM, AFTER_CLAIM, BEFORE_EFFECT, AFTER_EFFECT, BEFORE_RECORD, AFTER_RECORD, BEFORE_COMPLETION,
)  # fmt: skip
STATEMENTS = {"claim_effect": (BEFORE_CLAIM, AFTER_CLAIM), "record_effect": (BEFORE_RECORD, AFTER_RECORD)}

Mood = Literal["well", "refuses", "away", "breaks after it committed"]
Activity = Callable[[ExecuteCall], Awaitable[CallOutcome]]

T = TypeVar("T")
PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
"""Whose code runs; every task that a process starts inherits it."""


@dataclass
class Service:
    """What the tools call. It remembers keys, or not, as the tool's class needs.

    `effects` and `calls` count by effect id, which only the oracle sees; the service itself knows keys.
    """

    owner: asyncpg.Connection
    mood: Mood = "well"
    effects: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    remembered: set[str] = field(default_factory=set)
    """Keys it dedupes on, for as long as it remembers them."""
    landed: set[str] = field(default_factory=set)
    barred: dict[str, int] = field(default_factory=dict)
    """By key: requests begun up to this tick are refused for ever. That makes a probe's "no" final."""
    ticks: int = 0
    unannounced: list[str] = field(default_factory=list)
    """Effects of requests that came without an intent entry of their own in the ledger."""

    def begin(self) -> int:
        self.ticks += 1
        return self.ticks

    async def receive(self, effect_id: str, key: str, begun: int, *, dedupes: bool) -> bool:
        """Carry a request out; False where it is refused."""
        await self.count(effect_id)
        if begun <= self.barred.get(key, 0):
            return False
        if not (dedupes and key in self.remembered):
            self.effects[effect_id] += 1
        self.remembered.add(key)
        self.landed.add(key)
        return True

    async def count(self, effect_id: str) -> None:
        """Something begins; look for its intent entry. An assertion here would end up as the tool's own failure."""
        intents = await self.owner.fetchval(
            "SELECT count(*) FROM holdfast.entry WHERE effect_id = $1 AND kind = 'effect_intent'", effect_id
        )
        self.calls[effect_id] += 1
        if self.calls[effect_id] > intents:
            self.unannounced.append(effect_id)

    def happened(self, key: str) -> bool:
        """A probe's question; a "no" bars what is under way."""
        if key in self.landed:
            return True
        self.barred[key] = self.begin()
        return False

    def forget(self) -> None:
        """The life of its keys is over."""
        self.remembered.clear()


@dataclass
class Process:
    """One attempt in a worker of its own."""

    service: Service
    effect_id: str
    crash_at: str | None = None
    stall_at: str | None = None
    died: asyncio.Event = field(default_factory=asyncio.Event)
    stalled: asyncio.Event = field(default_factory=asyncio.Event)
    resumed: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Future[Any]] = field(default_factory=set)
    environment: ActivityEnvironment = field(default_factory=ActivityEnvironment)
    slept: float = 0
    """Seconds that its monotonic clock is ahead."""
    sent: int = 0
    work: asyncio.Task[CallOutcome] | None = None

    async def reach(self, point: str) -> None:
        """Pass a point of the protocol; a dead process passes none."""
        if self.died.is_set():
            raise asyncio.CancelledError
        if point == self.crash_at:
            self.died.set()
            await asyncio.Event().wait()
        if point == self.stall_at:
            self.stalled.set()
            await self.resumed.wait()

    def start(self, activity: Activity, request: ExecuteCall, *, attempt: int) -> None:
        self.environment.info = replace(self.environment.info, attempt=attempt)
        token = PROCESS.set(self)
        try:
            self.work = asyncio.ensure_future(self.environment.run(activity, request))
        finally:
            PROCESS.reset(token)

    async def until_it_stops(self) -> CallOutcome | Exception | None:
        """Its outcome, its error, or None where it died, was cancelled, or stalls."""
        assert self.work is not None
        stops = [asyncio.ensure_future(event.wait()) for event in (self.died, self.stalled)]
        if self.resumed.is_set():
            stops.pop().cancel()
        await asyncio.wait({self.work, *stops}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        for stop in stops:
            stop.cancel()
        if self.died.is_set() or (self.work.done() and self.crash_at == BEFORE_COMPLETION):
            await self.kill()
            return None
        if not self.work.done():
            assert self.stalled.is_set(), "an attempt neither ended nor reached its point"
            return None
        if self.work.cancelled():
            return None
        error = self.work.exception()
        if error is None:
            return self.work.result()
        assert isinstance(error, Exception)
        if isinstance(error, AssertionError):
            raise error
        return error

    async def resume(self, *, slept: float = 60) -> CallOutcome | Exception | None:
        """Go on after a stall that took so many seconds of its own clock."""
        self.slept += slept
        self.resumed.set()
        return await self.until_it_stops()

    def cancel(self, details: ActivityCancellationDetails) -> None:
        """Temporal asks it to stop."""
        self.environment.cancel(cancellation_details=details)

    async def kill(self) -> None:
        self.died.set()
        if self.work is not None and self.work.done() and not self.work.cancelled():
            self.work.exception()  # whatever it had to say, nobody hears it
        while running := {task for task in self.tasks if not task.done()}:
            for task in running:
                task.cancel()
            await asyncio.wait(running)


def factory(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T], **options: Any
) -> asyncio.Future[T]:
    """Tasks belong to the process whose code makes them."""
    task: asyncio.Task[T] = asyncio.Task(coroutine, loop=loop, **options)
    process = PROCESS.get()
    if process is not None:
        process.tasks.add(task)
    return task


class OwnDatabase(Database):
    """The database as the running process sees it: its commits are points of the protocol."""

    async def rows(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        process = PROCESS.get()
        if process is None:
            return await super().rows(name, *arguments)
        before, after = STATEMENTS.get(name, (name, name))
        await process.reach(before)
        rows = await super().rows(name, *arguments)
        await process.reach(after)
        return rows

    @asynccontextmanager
    async def transaction(
        self, isolation: Literal["read_committed", "repeatable_read"] = "read_committed"
    ) -> AsyncIterator[Any]:
        process = PROCESS.get()
        async with super().transaction(isolation) as connection:
            yield connection
            if process is not None:
                await process.reach(BEFORE_RECORD)
        if process is not None:
            await process.reach(AFTER_RECORD)


class Clock:
    """`time`, for the module under test: a process that stalled finds that its time went on."""

    @staticmethod
    def monotonic() -> float:
        process = PROCESS.get()
        return time.monotonic() + (process.slept if process else 0)
