"""Waiting for a condition or a moment, with as few timers as will do: each costs two events of history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from temporalio import workflow


class Alarm:
    """One timer, reused for the same wait while it rings early enough; the caller looks again when it rings."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._why = ""
        self._rings_at: datetime | None = None

    async def wait(self, condition: Callable[[], bool], *, until: datetime | None, why: str) -> None:
        """Return when the condition holds, or at `until` at the latest; maybe earlier.

        `why` names the timer in the Temporal UI.
        """
        task = self._set(until, why) if until is not None else None
        await workflow.wait_condition(lambda: condition() or (task is not None and task.done()))

    def _set(self, moment: datetime, why: str) -> asyncio.Task[None]:
        running = self._task is not None and not self._task.done()
        if self._task and running and why == self._why and self._rings_at and self._rings_at <= moment:
            return self._task
        self.stop()
        self._rings_at, self._why = moment, why
        duration = max(moment - workflow.now(), timedelta(0))
        self._task = asyncio.create_task(workflow.sleep(duration, summary=why))
        return self._task

    def stop(self) -> None:
        if self._task and not self._task.done():
            self._task.cancel()
        self._task = None
