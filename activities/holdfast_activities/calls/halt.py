"""Why an attempt is to stop."""

from __future__ import annotations

import asyncio
from typing import Literal

HaltReason = Literal["cancel", "release", "fenced"]
"""`cancel`: somebody asked for it. `release`: pause, reset or shutdown; a next attempt goes on. `fenced`: a newer
attempt already does."""


class Halt:
    """A request to stop. The first reason stands. Writes heed it until they are dispatched, reads at any time."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.reason: HaltReason | None = None

    def call(self, reason: HaltReason) -> None:
        self.reason = self.reason or reason
        self._event.set()

    async def called(self) -> None:
        await self._event.wait()
