"""One session of very many turns, whose conversation grows past any model's context: what does its n-th turn cost?

Of each turn's time on Temporal's clock, building the request and waiting for its answer are taken away: they grow
with what the model is sent. The rest is overhead, and must not grow.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from temporalio.api.enums.v1 import EventType

from benchmarks.contenders import Bare, Own
from benchmarks.history import TurnCost, costs_in, count, events_of
from benchmarks.inside import bare_inside, own_inside
from benchmarks.place import Place
from benchmarks.stopwatch import Asking, timing_bare, timing_holdfast
from holdfast_workers.client import Holdfast

WARM_UP = 3

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """`number` counts from 1; times are in milliseconds."""

    session: str
    number: int
    events: int
    size: int
    continued: bool
    total_ms: float
    build_ms: float
    ask_ms: float
    """From sending the request to the end of the answer, the model's own time and counts of tokens included."""

    @property
    def overhead_ms(self) -> float:
        return self.total_ms - self.build_ms - self.ask_ms


@dataclass(frozen=True, kw_only=True)
class LongSession:
    turns: Sequence[Turn]
    runs: int
    """Of the workflow's chain: one more than it continued as new."""
    tokens: int | None
    """Of its last turn, as the API counted them."""

    def near(self, number: int, around: int) -> Sequence[Turn]:
        """The turns so near to the `number`-th, as far as there are any; the last ones where it has fewer."""
        last = min(number, len(self.turns) - around)
        return [turn for turn in self.turns if abs(turn.number - last) <= around]


async def measure(place: Place, client: Holdfast, *, turns: int, tell: Tell) -> dict[str, LongSession]:
    """Holdfast remembering everything, Holdfast with a window, and the bare loop, one after the other."""
    found: dict[str, LongSession] = {}
    async with own_inside(place, client) as own:
        for name, agent in (("full", "default"), ("window", "window")):
            tell(f"a session of {turns} turns, memory `{name}`")
            found[name] = await _one(name, replace(own, agent=agent, verb="read"), client, turns)
    async with bare_inside(place, client) as bare:
        tell(f"a session of {turns} turns, bare loop")
        found["bare"] = await _one("bare", replace(bare, verb="read"), client, turns)
    return found


async def _one(name: str, side: Bare | Own, client: Holdfast, turns: int) -> LongSession:
    await side.run(WARM_UP)
    with timing_bare() if isinstance(side, Bare) else timing_holdfast() as watch:
        id = await side.run(turns)
    events = await events_of(client.temporal, id)
    costs = costs_in(events, side.model_activity)
    # The last answer is the one without a call, and no turn follows it.
    each = zip(range(1, turns + 1), costs, list(watch.turns.values())[:-1], strict=True)
    return LongSession(
        turns=[_turn(name, number, cost, asking) for number, cost, asking in each],
        runs=count(events, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED),
        tokens=None if isinstance(side, Bare) else (await client.reader.turns(id))[-1].usage.total,
    )


def _turn(name: str, number: int, cost: TurnCost, asking: Asking) -> Turn:
    return Turn(
        session=name,
        number=number,
        events=cost.events,
        size=cost.size,
        continued=cost.continued,
        total_ms=cost.seconds * 1000,
        build_ms=asking.build_s * 1000,
        ask_ms=asking.ask_s * 1000,
    )


def write_turns(sessions: Iterable[LongSession], path: Path) -> None:
    """One line a turn, for whoever draws plots of their own."""
    with path.open("w", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(field.name for field in fields(Turn))
        for session in sessions:
            lines.writerows(_cells(turn) for turn in session.turns)


def _cells(turn: Turn) -> list[object]:
    return [round(cell, 3) if isinstance(cell, float) else cell for cell in astuple(turn)]
