"""The sessions of a run: started a few at a time, watched until each has ended."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from holdfast.messages import Principal
from holdfast.states import SagaState, SessionStatus
from holdfast_ledger.views import Saga, Session
from holdfast_workers.chaos.house import AGENT
from holdfast_workers.chaos.patience import patiently
from holdfast_workers.chaos.shapes import Shape
from holdfast_workers.client import Holdfast, Started, new_id

LOOK_EVERY_S = 0.4
UNFINISHED = [state for state in SagaState if state not in (SagaState.COMMITTED, SagaState.ABORTED)]
AT_ONCE = 24
"""Sessions open at a time: enough to have some at every point of the protocol."""


@dataclass(kw_only=True)
class Crowd:
    """Sessions by id, and how they stand in the ledger."""

    client: Holdfast
    shapes: list[Shape]
    bookings: list[str]
    """One for each session, and more for sessions that come later."""
    wanted: int
    """Sessions that `start_all` starts."""
    numbers: dict[str, int] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    given_up: dict[str, str | None] = field(default_factory=dict)
    """How sessions were given up, by id; None: it came too late."""
    unfinished: list[Saga] = field(default_factory=list)
    """Sagas that neither committed nor were undone."""

    @property
    def expected(self) -> int:
        """Writes that all sessions together are to do."""
        return sum(self.shape(number).writes for number in range(1, self.wanted + 1))

    @property
    def open(self) -> list[str]:
        """Sessions that were started and have not ended. Of a terminated one the ledger never hears."""
        return [
            one
            for one in self.numbers
            if one not in self.terminated and (one not in self.sessions or not self.sessions[one].status.ended)
        ]

    @property
    def terminated(self) -> set[str]:
        return {one for one, kind in self.given_up.items() if kind == "session_terminated"}

    async def start_all(self) -> None:
        """Start every session; return when the last one was started."""
        for number in range(1, self.wanted + 1):
            while len(self.open) >= AT_ONCE:  # noqa: ASYNC110 - the ledger tells
                await asyncio.sleep(LOOK_EVERY_S / 4)
            await self.start(number)

    async def start(self, number: int, **options: Any) -> str:
        """Start one session, whatever is away meanwhile; returns its id."""
        session_id = new_id()
        self.numbers[session_id] = number
        await patiently(lambda: self.start_again(session_id, number, **options))
        return session_id

    async def start_again(self, session_id: str, number: int, **options: Any) -> Started:
        """The very same start."""
        return await self.client.start(
            self.message(number),
            agent=AGENT,
            session_id=session_id,
            principal=Principal(requested_by="chaos"),
            **{"close_when_idle": True, **options},
        )

    def asking(self) -> Iterator[int]:
        """Numbers that no session has, of scripts that wait for a person."""
        first = max(self.numbers.values(), default=0) + 1
        return (number for number in itertools.count(first) if not self.shape(number).reversible)

    def message(self, number: int) -> str:
        return self.shape(number).message(number, self.bookings[(number - 1) % len(self.bookings)])

    def shape(self, number: int) -> Shape:
        return self.shapes[number % len(self.shapes)]

    async def watch(self) -> None:
        """Keep `sessions` as the ledger has them, for ever; cancel it."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        found = await patiently(lambda: self.client.reader.sessions(agent=AGENT, limit=100_000))
        self.sessions.update({one.id: one for one in found})
        self.unfinished = await patiently(lambda: self.client.reader.sagas(states=UNFINISHED))

    def count(self, status: SessionStatus) -> int:
        return sum(one.status is status for one in self.sessions.values())
