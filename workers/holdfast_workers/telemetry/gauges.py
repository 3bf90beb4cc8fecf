"""Gauges over all sessions, counted in Postgres once per export interval.

Every worker exports the same numbers, since the ledger is shared: aggregate them by maximum, never by sum. While
Postgres does not answer there is no value, rather than an old one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from holdfast.errors import HoldfastError
from holdfast_ledger.standing import Standing
from holdfast_workers.telemetry import names

_log = logging.getLogger(__name__)


class Gauges:
    """Holds what was counted last; the exporter's thread reads it at any time."""

    def __init__(self, meter: Meter, *, every: timedelta) -> None:
        """Args:
        every: the export interval, after which to count again.
        """
        self._every = every
        self._standing: Standing | None = None
        for name, callback, description in (
            (names.APPROVALS_WAITING, self._approvals, "Calls that wait for a person's decision."),
            (names.EFFECTS_UNKNOWN, self._effects, "Effects of which nobody knows whether they happened."),
            (names.SESSIONS, self._sessions, "Sessions that have not ended."),
            (names.SAGAS, self._sagas, "Sagas that have not ended; HELD and STUCK wait for a person."),
        ):
            unit, _ = names.METRICS[name]
            meter.create_observable_gauge(name, [callback], unit=unit, description=description)

    @asynccontextmanager
    async def watching(self, count: Callable[[], Awaitable[Standing]]) -> AsyncIterator[None]:
        """Count again and again for the length of the block."""
        await self._count(count)
        task = asyncio.create_task(self._keep_counting(count))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self._count(count)  # what the last export will show

    async def _keep_counting(self, count: Callable[[], Awaitable[Standing]]) -> None:
        while True:
            await asyncio.sleep(self._every.total_seconds())
            await self._count(count)

    async def _count(self, count: Callable[[], Awaitable[Standing]]) -> None:
        try:
            self._standing = await count()
        except HoldfastError as error:
            self._standing = None
            _log.warning("gauges have no value: %s", type(error).__name__)

    def _approvals(self, options: CallbackOptions) -> Iterable[Observation]:
        if (standing := self._standing) is not None:
            yield Observation(standing.approvals_waiting)

    def _effects(self, options: CallbackOptions) -> Iterable[Observation]:
        if (standing := self._standing) is not None:
            yield Observation(standing.effects_unknown)

    def _sessions(self, options: CallbackOptions) -> Iterable[Observation]:
        if (standing := self._standing) is not None:
            for status, number in standing.sessions.items():
                yield Observation(number, {names.SESSION_STATUS: str(status)})

    def _sagas(self, options: CallbackOptions) -> Iterable[Observation]:
        if (standing := self._standing) is not None:
            for state, number in standing.sagas.items():
                yield Observation(number, {names.SAGA_STATE: str(state)})
