"""The measurements, one after the other: rounds of all sides, long sessions, viewers, statements, idle sessions."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import mean, median

from temporalio.api.history.v1 import HistoryEvent

from benchmarks import idle, long_session, statements, viewers
from benchmarks.bursts import Round, lone, lone_session, run_burst
from benchmarks.contenders import Bare, Contender, Own
from benchmarks.long_session import LongSession, Turn
from benchmarks.pace import pace_ms
from benchmarks.place import QUEUES, Place
from benchmarks.results import Long, Machine, Near, Range, Ratios, Results, Side, ratio
from holdfast_workers.client import Holdfast

EARLY_TURN = 10
BAR_TURN = 1000
"""The turn whose cost the design has bars for."""
WARM_UPS = 10

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much to measure."""

    rounds: int = 3
    sessions: int = 50
    turns: int = 20
    alone: int = 3
    """Sessions of each side in each round that have everything to themselves."""
    settle_s: float = 20
    """Before those: what a burst leaves behind in Temporal, timers above all, is over by then."""
    late_turn: int = BAR_TURN
    around: int = 10
    """What a turn of the long session costs is the median of those this near to it."""
    idle_sessions: int = 500
    pieces: int = 100
    many_viewers: int = 20


@dataclass(frozen=True, kw_only=True)
class Found:
    """`long`: every turn of the long sessions, for plots."""

    results: Results
    long: Mapping[str, LongSession]


@dataclass(frozen=True)
class State:
    """Of the machine, at one moment after another."""

    load: list[float] = field(default_factory=list)
    pace_ms: list[float] = field(default_factory=list)

    def look(self) -> None:
        self.load.append(os.getloadavg()[0])
        self.pace_ms.append(pace_ms())


@dataclass(frozen=True, kw_only=True)
class Measured:
    rounds: Mapping[str, Sequence[Round]]
    long: Mapping[str, LongSession]
    one_viewer_s: Sequence[float]
    many_viewers_s: Sequence[float]
    statements: Mapping[str, float]
    idle_session_bytes: int
    began: datetime
    seconds: float
    state: State


async def measure(place: Place, plan: Plan, tell: Tell = lambda line: None) -> Found:
    """Everything. The stack of `place` must have nothing else to do."""
    began, clock, state = datetime.now(UTC), time.monotonic(), State()
    state.look()
    async with await Holdfast.connect(place.settings(QUEUES["holdfast"])) as holdfast:
        rounds = await _rounds(place, plan, holdfast, tell, state)
        long = await long_session.measure(place, holdfast, turns=plan.late_turn + plan.around, tell=tell)
        tell("viewers")
        one = await viewers.delays(holdfast, viewers=1, pieces=plan.pieces)
        many = await viewers.delays(holdfast, viewers=plan.many_viewers, pieces=plan.pieces)
        tell("statements")
        asked = await statements.per_turn(place, holdfast, turns=min(plan.turns, EARLY_TURN))
        tell(f"{plan.idle_sessions} idle sessions")
        memory = await idle.memory_per_session(place, holdfast, sessions=plan.idle_sessions)
    state.look()
    measured = Measured(
        rounds=rounds,
        long=long,
        one_viewer_s=one,
        many_viewers_s=many,
        statements=asked,
        idle_session_bytes=memory,
        began=began,
        seconds=time.monotonic() - clock,
        state=state,
    )
    return Found(results=_results(plan, measured), long=long)


async def _rounds(
    place: Place, plan: Plan, holdfast: Holdfast, tell: Tell, state: State
) -> Mapping[str, Sequence[Round]]:
    """All sides in each round, by their names; the order alternates. Looks at the machine's state after each."""
    bare, own = Bare(holdfast.temporal), Own(holdfast)
    sides: tuple[Contender, ...] = (bare, own, Own(holdfast, name="inline", agent="inline"))
    for side in sides:  # first sessions load modules and open connections
        await asyncio.gather(*(side.run(2) for _ in range(min(plan.sessions, WARM_UPS))))
    measured: dict[str, list[Round]] = {side.name: [] for side in sides}
    for number in range(plan.rounds):
        order = sides if number % 2 == 0 else sides[::-1]
        await asyncio.sleep(plan.settle_s)
        alone: dict[str, list[list[HistoryEvent]]] = {side.name: [] for side in sides}
        for _ in range(plan.alone):
            for side in order:
                alone[side.name].append(await lone_session(side, holdfast.temporal, plan.turns))
        for side in order:
            burst = await run_burst(place, side, holdfast.temporal, sessions=plan.sessions, turns=plan.turns)
            found = Round(lone=lone(side, alone[side.name]), burst=burst)
            measured[side.name].append(found)
            tell(f"round {number + 1} of {plan.rounds}, {side.name}: {found}")
        state.look()
    return measured


def _results(plan: Plan, measured: Measured) -> Results:
    own, inline, bare = (measured.rounds[name] for name in ("holdfast", "inline", "bare"))
    ratios, ratios_inline = _ratios(own, bare), _ratios(inline, bare)
    holdfast, quick = _side(own), _side(inline)
    long = {name: _long(session, plan) for name, session in measured.long.items()}
    early, late = long["full"].early, long["full"].late
    reached = plan.late_turn == BAR_TURN
    return Results(
        throughput_ratio=ratios.throughput.median,
        throughput_ratio_inline=ratios_inline.throughput.median,
        lone_latency_ratio=ratios.lone_latency.median,
        lone_latency_ratio_inline=ratios_inline.lone_latency.median,
        events_per_turn=holdfast.events_per_turn,
        events_per_turn_inline=quick.events_per_turn,
        bytes_per_turn_at_10=round(early.bytes.median),
        bytes_per_turn_at_1000=round(late.bytes.median) if reached else None,
        overhead_ms_at_10=early.overhead_ms.median,
        overhead_ms_at_1000=late.overhead_ms.median if reached else None,
        memory_per_idle_session_bytes=measured.idle_session_bytes,
        postgres_bytes_per_turn=round(holdfast.postgres_bytes_per_turn.median),
        wal_bytes_per_turn=round(holdfast.wal_bytes_per_turn.median),
        postgres_round_trips_per_turn=round(sum(measured.statements.values()), 2),
        billable_actions_per_turn=holdfast.billable_actions_per_turn,
        billable_actions_per_turn_inline=quick.billable_actions_per_turn,
        chunk_ms_p50=round(median(measured.one_viewer_s) * 1000, 1),
        chunk_ms_p50_many=round(median(measured.many_viewers_s) * 1000, 1),
        ratios=ratios,
        ratios_inline=ratios_inline,
        holdfast=holdfast,
        inline=quick,
        bare=_side(bare),
        late_turn=plan.late_turn,
        around=plan.around,
        long=long,
        statements_per_turn={name: round(number, 2) for name, number in measured.statements.items()},
        many_viewers=plan.many_viewers,
        idle_sessions=plan.idle_sessions,
        rounds=plan.rounds,
        sessions=plan.sessions,
        turns=plan.turns,
        began=measured.began,
        seconds=round(measured.seconds),
        machine=Machine.here(measured.state.load, measured.state.pace_ms),
    )


def _ratios(mine: Sequence[Round], other: Sequence[Round]) -> Ratios:
    pairs = list(zip(mine, other, strict=True))
    return Ratios(
        throughput=ratio([(own.burst.sessions_per_s, bare.burst.sessions_per_s) for own, bare in pairs]),
        lone_latency=ratio([(own.lone.turn_s, bare.lone.turn_s) for own, bare in pairs]),
        loaded_latency=ratio([(own.burst.turn_s, bare.burst.turn_s) for own, bare in pairs]),
        cpu=ratio([(own.burst.cpu_per_turn_s, bare.burst.cpu_per_turn_s) for own, bare in pairs]),
        all_cpu=ratio([(own.burst.all_cpu_per_turn_s, bare.burst.all_cpu_per_turn_s) for own, bare in pairs]),
    )


def _side(rounds: Sequence[Round]) -> Side:
    lone, burst = [each.lone for each in rounds], [each.burst for each in rounds]
    return Side(
        sessions_per_s=Range.of([each.sessions_per_s for each in burst]),
        lone_turn_ms=Range.of([each.turn_s * 1000 for each in lone]),
        loaded_turn_ms=Range.of([each.turn_s * 1000 for each in burst]),
        longest_turn_ms=Range.of([each.longest_turn_s * 1000 for each in burst]),
        cpu_ms_per_turn=Range.of([each.cpu_per_turn_s * 1000 for each in burst]),
        all_cpu_ms_per_turn=Range.of([each.all_cpu_per_turn_s * 1000 for each in burst]),
        postgres_bytes_per_turn=Range.of([each.kept_per_turn for each in burst]),
        wal_bytes_per_turn=Range.of([each.logged_per_turn for each in burst]),
        events_per_turn=max(each.events_per_turn for each in lone),
        bytes_per_turn=round(median(each.size_per_turn for each in lone)),
        billable_actions_per_turn=round(median(each.actions_per_turn for each in lone), 2),
        billable_actions_besides=round(median(each.actions_besides for each in lone), 2),
        workflow_tasks_unanswered=sum(each.unanswered for each in burst),
        workflow_tasks_unfetched=sum(each.unfetched for each in burst),
        longest_gap_ms=Range.of([each.gap.seconds * 1000 for each in burst]),
    )


def _long(session: LongSession, plan: Plan) -> Long:
    return Long(
        turns=len(session.turns),
        runs=session.runs,
        tokens=session.tokens,
        events_per_turn_mean=round(mean(turn.events for turn in session.turns), 2),
        early=_near(session.near(EARLY_TURN, plan.around)),
        late=_near(session.near(plan.late_turn, plan.around)),
    )


def _near(turns: Sequence[Turn]) -> Near:
    return Near(
        events=Range.of([turn.events for turn in turns]),
        bytes=Range.of([turn.size for turn in turns]),
        total_ms=Range.of([turn.total_ms for turn in turns]),
        build_ms=Range.of([turn.build_ms for turn in turns]),
        ask_ms=Range.of([turn.ask_ms for turn in turns]),
        overhead_ms=Range.of([turn.overhead_ms for turn in turns]),
    )
