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
        both: tuple[Contender, Contender] = (bare, own)
        for side in both:  # first sessions load modules and open connections
            await asyncio.gather(*(side.run(2) for _ in range(min(plan.sessions, 10))))
        measured: dict[str, list[Round]] = {bare.name: [], own.name: []}
        for number in range(plan.rounds):
            for side in both if number % 2 == 0 else reversed(both):
                found = await _round(place, side, plan, holdfast)
                measured[side.name].append(found)
                tell(f"round {number + 1} of {plan.rounds}, {side.name}: {_line(found)}")
            load.append(os.getloadavg()[0])
        tell(f"a session of {plan.late_turn} turns")
        long = await _costs(holdfast, own, plan.late_turn + AROUND)
        tell("viewers")
        one = await viewers.delays(holdfast, viewers=1, pieces=plan.pieces)
        many = await viewers.delays(holdfast, viewers=plan.many_viewers, pieces=plan.pieces)
    tell("statements")
    asked = await statements.per_turn(place, turns=min(plan.turns, EARLY_TURN))
    load.append(os.getloadavg()[0])
    sides_found = {name: _side(rounds) for name, rounds in measured.items()}
    pairs = list(zip(measured[own.name], measured[bare.name], strict=True))
    return Results(
        throughput_ratio=ratio([(mine.sessions_per_s, other.sessions_per_s) for mine, other in pairs]),
        lone_latency_ratio=ratio([(mine.lone_turn_s, other.lone_turn_s) for mine, other in pairs]),
        loaded_latency_ratio=ratio([(mine.loaded_turn_s, other.loaded_turn_s) for mine, other in pairs]),
        cpu_ratio=ratio([(mine.cpu_per_turn_s, other.cpu_per_turn_s) for mine, other in pairs]),
        all_cpu_ratio=ratio([(mine.all_cpu_per_turn_s, other.all_cpu_per_turn_s) for mine, other in pairs]),
        bare=sides_found[bare.name],
        holdfast=sides_found[own.name],
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
    worker = psutil.Process(place.pids[side.name])
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
