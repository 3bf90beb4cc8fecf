"""Why an attempt is to stop, and how it is told: a cancel never cuts an attempt off, it asks it to wind up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from temporalio import activity

HaltReason = Literal["cancel", "release", "fenced"]
"""`cancel`: somebody asked for it. `release`: pause, reset or shutdown; a next attempt goes on. `fenced`: a newer
attempt already does."""

Outcome = TypeVar("Outcome")


class Halt:
    """A request to stop. The first reason stands. Writes heed it until they are dispatched, reads at any time."""

    def __init__(self) -> None:
        self.called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once it was called. It is for many to wait for: never cancel it."""
        self.reason: HaltReason | None = None

    def call(self, reason: HaltReason) -> None:
        self.reason = self.reason or reason
        if not self.called.done():
            self.called.set_result(None)

    async def cuts_off(self, work: Awaitable[None]) -> None:
        """Wait for `work`, which is cancelled once this is called: in the task of the caller, since most end by
        themselves, and one of their own takes three rounds of the loop. Raises what it raises, but for the cancel.
        """
        under_way = True

        def cut(_: object) -> None:
            if under_way:
                until_called.reschedule(0)

        self.called.add_done_callback(cut)
        try:
            async with asyncio.timeout(None) as until_called:
                await work
        except TimeoutError:
            if not until_called.expired():
                raise
        finally:
            under_way = False
            self.called.remove_done_callback(cut)


async def wound_up(attempt: Callable[[Halt], Awaitable[Outcome | None]]) -> Outcome:
    """Run an attempt to an end of its own making, even when Temporal cancels this activity meanwhile.

    Raises:
        asyncio.CancelledError: the attempt released its claim (None), or the whole process is stopping.
    """
    halt = Halt()
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def wake(_: object = None) -> None:
        if not ended.done():
            ended.set_result(None)

    async def to_its_end() -> Outcome | None:
        try:
            return await attempt(halt)
        finally:
            wake()  # a round of the loop before the end of the task would

    work = asyncio.ensure_future(to_its_end())
    work.add_done_callback(wake)  # where it was cancelled before it began
    while not work.done():
        try:
            await ended
        except asyncio.CancelledError:
            if not work.done():
                halt.call(_reason())
                ended = loop.create_future()
    outcome = work.result()
    if outcome is None:
        raise asyncio.CancelledError
    return outcome


def _reason() -> HaltReason:
    """Only a cancel that somebody asked for ends the effect; any other leaves it to a next attempt."""
    details = activity.cancellation_details()
    return "cancel" if details is not None and details.cancel_requested else "release"
