"""Somebody who gives sessions up while they write: by `abort`, or by terminating their workflow without a word.

Only sessions whose every write can be undone: then nothing of them may stand.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from temporalio.service import RPCError, RPCStatusCode

from holdfast_workers.chaos.crowd import Crowd
from holdfast_workers.chaos.house import House
from holdfast_workers.chaos.patience import patiently
from holdfast_workers.chaos.shapes import REVERSIBLE_WRITES

LOOK_EVERY_S = 0.1
QUITTER = "quinn"
KINDS = ("abort", "session_terminated")
CARRIED_THROUGH = 0.25
"""Share of the sessions that nobody gives up."""


@dataclass(kw_only=True)
class Quitter:
    """One run's. `kinds`: those of `KINDS` that are wanted."""

    crowd: Crowd
    house: House
    seed: int
    kinds: Collection[str]
    struck: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """For ever; cancel it."""
        while True:
            written = Counter(one.session for one in await patiently(self.house.services.carried_out))
            for session_id, number in list(self.crowd.numbers.items()):
                if session_id not in self.crowd.given_up and self.crowd.shape(number).reversible:
                    await self._look(session_id, number, written)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self, session_id: str, number: int, written: Mapping[int | None, int]) -> None:
        """Give it up once it has written as much as the seed says."""
        kind, after = fate(self.seed, number, self.kinds)
        if kind is None or written[number] < after:
            return
        handle = self.crowd.client.temporal.get_workflow_handle(session_id)
        try:
            if kind == "abort":
                await handle.signal(
                    "abort", {"id": "give-up", "by": QUITTER, "reason": "it is not wanted any more"}
                )
            else:
                await handle.terminate("killed by chaos")
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                return  # Temporal is away: at the next look
            kind = None  # it has ended meanwhile
        self.crowd.given_up[session_id] = kind
        if kind:
            self.struck[kind] += 1


def fate(seed: int, number: int, kinds: Collection[str]) -> tuple[str | None, int]:
    """How session `number` is given up, and after how many writes; None: it is not."""
    choice = random.Random(f"give up {seed} {number}")
    carried_through, after = choice.random() < CARRIED_THROUGH, choice.randint(1, REVERSIBLE_WRITES - 1)
    wanted = [kind for kind in KINDS if kind in kinds]
    kind = choice.choice(KINDS)
    if carried_through or not wanted:
        return None, after
    return kind if kind in wanted else wanted[0], after
