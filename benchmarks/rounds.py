"""The measurements themselves: lone sessions, bursts, a long session, viewers, statements."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

import psutil

from benchmarks import statements, viewers
from benchmarks.contenders import Bare, Contender, Own
from benchmarks.history import TurnCost, turn_costs
from benchmarks.place import QUEUES, Place
from benchmarks.results import Machine, Range, Results, Side, ratio
from holdfast_workers.client import Holdfast

EARLY_TURN = 10
AROUND = 2
"""A turn's size is the median of those this near to it: their digits differ."""
SAMPLED = 5
"""Sessions of a burst whose histories are read."""

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much to measure."""

    rounds: int = 3
    sessions: int = 50
    turns: int = 20
    late_turn: int = 200
    pieces: int = 100
    many_viewers: int = 20


@dataclass(frozen=True, kw_only=True)
class Round:
    """One side in one round. Times are in seconds."""

    lone_turn_s: float
    loaded_turn_s: float
    sessions_per_s: float
    cpu_per_turn_s: float
    all_cpu_per_turn_s: float


async def measure(place: Place, plan: Plan, tell: Tell = lambda line: None) -> Results:
    """Everything, one after the other. The stack of `place` must have nothing else to do."""
    began, load = datetime.now(UTC), [os.getloadavg()[0]]
    async with await Holdfast.connect(place.settings(QUEUES["holdfast"])) as holdfast:
        bare, own = Bare(holdfast.temporal), Own(holdfast)
        inline = Own(holdfast, name="inline", agent="inline")
        sides: tuple[Contender, ...] = (bare, own, inline)
        for side in sides:  # first sessions load modules and open connections
            await asyncio.gather(*(side.run(2) for _ in range(min(plan.sessions, 10))))
        measured: dict[str, list[Round]] = {side.name: [] for side in sides}
        for number in range(plan.rounds):
            for side in sides if number % 2 == 0 else reversed(sides):
                found = await _round(place, side, plan, holdfast)
                measured[side.name].append(found)
                tell(f"round {number + 1} of {plan.rounds}, {side.name}: {_line(found)}")
            load.append(os.getloadavg()[0])
        tell(f"a session of {plan.late_turn} turns")
        long = await _costs(holdfast, own, plan.late_turn + AROUND)
        long_inline = await _costs(holdfast, inline, EARLY_TURN + AROUND)
        tell("viewers")
        one = await viewers.delays(holdfast, viewers=1, pieces=plan.pieces)
        many = await viewers.delays(holdfast, viewers=plan.many_viewers, pieces=plan.pieces)
    tell("statements")
    asked = await statements.per_turn(place, turns=min(plan.turns, EARLY_TURN))
    load.append(os.getloadavg()[0])
    sides_found = {name: _side(rounds) for name, rounds in measured.items()}
    against = measured[bare.name]
    ordinary, quick = _ratios(measured[own.name], against), _ratios(measured[inline.name], against)
    return Results(
        **ordinary,
        **{f"{name}_inline": value for name, value in quick.items()},
        bare=sides_found[bare.name],
        holdfast=sides_found[own.name],
        inline=sides_found[inline.name],
        events_per_turn_inline=max(cost.events for cost in long_inline),
        bytes_per_turn_inline=_size_near(long_inline, EARLY_TURN),
        events_per_turn=max(cost.events for cost in long),
        bytes_per_turn_at_10=_size_near(long, EARLY_TURN),
        late_turn=plan.late_turn,
        bytes_per_turn_late=_size_near(long, plan.late_turn),
        turn_ms_at_10=_time_near(long, EARLY_TURN),
        turn_ms_late=_time_near(long, plan.late_turn),
        round_trips_per_turn=round(sum(asked.values()), 2),
        statements_per_turn={name: round(number, 2) for name, number in asked.items()},
        chunk_ms_p50=round(median(one) * 1000, 1),
        chunk_ms_p50_many=round(median(many) * 1000, 1),
        many_viewers=plan.many_viewers,
        rounds=plan.rounds,
        sessions=plan.sessions,
        turns=plan.turns,
        began=began,
        machine=Machine.here(load),
    )


async def _round(place: Place, side: Contender, plan: Plan, holdfast: Holdfast) -> Round:
    lone = await _costs(holdfast, side, plan.turns)
    worker = psutil.Process(place.pids[side.worker])
    cpu, all_cpu, began = _cpu(worker), _cpu_of_all(), time.monotonic()
    ids = await asyncio.gather(*(side.run(plan.turns) for _ in range(plan.sessions)))
    took, spent, all_spent = time.monotonic() - began, _cpu(worker) - cpu, _cpu_of_all() - all_cpu
    loaded = [cost for id in ids[:SAMPLED] for cost in await turn_costs(holdfast.temporal, id, side.model_activity)]
    return Round(
        lone_turn_s=median(cost.seconds for cost in lone),
        loaded_turn_s=median(cost.seconds for cost in loaded),
        sessions_per_s=plan.sessions / took,
        cpu_per_turn_s=spent / (plan.sessions * plan.turns),
        all_cpu_per_turn_s=all_spent / (plan.sessions * plan.turns),
    )


async def _costs(holdfast: Holdfast, side: Contender, turns: int) -> list[TurnCost]:
    """What each turn of one session that has the worker to itself costs."""
    return await turn_costs(holdfast.temporal, await side.run(turns), side.model_activity)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _cpu_of_all() -> float:
    """Of this process and all it started: servers, model, workers."""
    me = psutil.Process()
    found = 0.0
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            found += _cpu(process)
    return found


def _near(costs: Sequence[TurnCost], turn: int) -> Sequence[TurnCost]:
    """The costs of the turns around the `turn`-th, counted from 1."""
    last = min(turn, len(costs) - AROUND)
    return costs[max(last - 1 - AROUND, 0) : last + AROUND]


def _size_near(costs: Sequence[TurnCost], turn: int) -> int:
    return int(median(cost.size for cost in _near(costs, turn)))


def _time_near(costs: Sequence[TurnCost], turn: int) -> float:
    return round(median(cost.seconds for cost in _near(costs, turn)) * 1000, 1)


def _ratios(mine: Sequence[Round], other: Sequence[Round]) -> dict[str, float]:
    """Of each number, by the name it has in `Results`."""
    pairs = list(zip(mine, other, strict=True))
    return {
        "throughput_ratio": ratio([(own.sessions_per_s, bare.sessions_per_s) for own, bare in pairs]),
        "lone_latency_ratio": ratio([(own.lone_turn_s, bare.lone_turn_s) for own, bare in pairs]),
        "loaded_latency_ratio": ratio([(own.loaded_turn_s, bare.loaded_turn_s) for own, bare in pairs]),
        "cpu_ratio": ratio([(own.cpu_per_turn_s, bare.cpu_per_turn_s) for own, bare in pairs]),
        "all_cpu_ratio": ratio([(own.all_cpu_per_turn_s, bare.all_cpu_per_turn_s) for own, bare in pairs]),
    }


def _side(rounds: Sequence[Round]) -> Side:
    return Side(
        sessions_per_s=Range.of([each.sessions_per_s for each in rounds]),
        lone_turn_ms=Range.of([each.lone_turn_s * 1000 for each in rounds]),
        loaded_turn_ms=Range.of([each.loaded_turn_s * 1000 for each in rounds]),
        cpu_ms_per_turn=Range.of([each.cpu_per_turn_s * 1000 for each in rounds]),
        all_cpu_ms_per_turn=Range.of([each.all_cpu_per_turn_s * 1000 for each in rounds]),
    )


def _line(found: Round) -> str:
    return (
        f"{found.sessions_per_s:.2f} sessions/s, a turn {found.lone_turn_s * 1000:.1f} ms alone and "
        f"{found.loaded_turn_s * 1000:.0f} ms loaded, {found.cpu_per_turn_s * 1000:.1f} ms of the worker's CPU, "
        f"{found.all_cpu_per_turn_s * 1000:.1f} of all"
    )
