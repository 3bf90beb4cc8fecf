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


async def wound_up(attempt: Callable[[Halt], Awaitable[Outcome | None]]) -> Outcome:
    """Run an attempt to an end of its own making, even when Temporal cancels this activity meanwhile.

    Raises:
        asyncio.CancelledError: the attempt released its claim (None), or the whole process is stopping.
    """
    halt = Halt()
    work = asyncio.ensure_future(attempt(halt))
    while True:
        try:
            outcome = await asyncio.shield(work)
        except asyncio.CancelledError:
            if work.cancelled():
                raise
            halt.call(_reason())
            continue
        if outcome is None:
            raise asyncio.CancelledError
        return outcome


def _reason() -> HaltReason:
    """Only a cancel that somebody asked for ends the effect; any other leaves it to a next attempt."""
    details = activity.cancellation_details()
    return "cancel" if details is not None and details.cancel_requested else "release"
