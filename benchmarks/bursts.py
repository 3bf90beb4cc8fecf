"""One side in one round: sessions that have everything to themselves, and many at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median, median_low

import psutil
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

from benchmarks.billing import actions
from benchmarks.contenders import Contender
from benchmarks.history import Gap, costs_in, events_of, longest_gap, unanswered, unfetched
from benchmarks.place import Place
from benchmarks.storage import Written, written

STALL_S = 5
"""Longer than any step takes on a machine that is no more than busy."""


@dataclass(frozen=True, kw_only=True)
class Lone:
    """Sessions one after the other. `actions_besides`: what the start and end of one add to those of its turns."""

    turn_s: float
    events_per_turn: int
    size_per_turn: float
    actions_per_turn: float
    actions_besides: float


@dataclass(frozen=True, kw_only=True)
class Burst:
    """Many sessions at the same time. What is `per_turn` includes their beginning and end. Times are in seconds."""

    sessions_per_s: float
    turn_s: float
    longest_turn_s: float
    cpu_per_turn_s: float
    all_cpu_per_turn_s: float
    kept_per_turn: float
    logged_per_turn: float
    unanswered: int
    unfetched: int
    gap: Gap
    """The longest in any session."""

    @property
    def stall(self) -> str:
        """What went wrong, in words; empty where nothing did."""
        if not (self.unanswered or self.unfetched or self.gap.seconds > STALL_S):
            return ""
        return (
            f"workflow tasks unanswered: {self.unanswered}, left in sticky queues: {self.unfetched}; "
            f"nothing for {self.gap.seconds:.1f} s before {self.gap.before}"
        )


@dataclass(frozen=True, kw_only=True)
class Round:
    lone: Lone
    burst: Burst

    def __str__(self) -> str:
        burst, stall = self.burst, self.burst.stall
        return (
            f"{burst.sessions_per_s:.2f} sessions/s, a turn {self.lone.turn_s * 1000:.1f} ms alone and "
            f"{burst.turn_s * 1000:.0f} ms loaded (the longest {burst.longest_turn_s * 1000:.0f}), "
            f"{burst.cpu_per_turn_s * 1000:.1f} ms of the worker's CPU, "
            f"{burst.all_cpu_per_turn_s * 1000:.1f} of all" + (f"; {stall}" if stall else "")
        )


async def lone_session(side: Contender, client: Client, turns: int) -> list[HistoryEvent]:
    """The events of one session that has everything to itself."""
    return await events_of(client, await side.run(turns))


def lone(side: Contender, sessions: Sequence[Sequence[HistoryEvent]]) -> Lone:
    """What their turns cost."""
    costs = [cost for events in sessions for cost in costs_in(events, side.model_activity)]
    in_turns = sum(cost.actions for cost in costs)
    return Lone(
        turn_s=median(cost.seconds for cost in costs),
        events_per_turn=median_low(cost.events for cost in costs),  # one that timed out has more
        size_per_turn=median(cost.size for cost in costs),
        actions_per_turn=in_turns / len(costs),
        actions_besides=(sum(actions(events) for events in sessions) - in_turns) / len(sessions),
    )


async def run_burst(place: Place, side: Contender, client: Client, *, sessions: int, turns: int) -> Burst:
    """So many sessions at once."""
    worker = psutil.Process(place.pids[side.worker])
    stored = await written(place.addresses.migrate_dsn)
    cpu, all_cpu, began = _cpu(worker), _cpu_of_all(), time.monotonic()
    ids = await asyncio.gather(*(side.run(turns) for _ in range(sessions)))
    took, spent, all_spent = time.monotonic() - began, _cpu(worker) - cpu, _cpu_of_all() - all_cpu
    added = (await written(place.addresses.migrate_dsn)).since(stored)
    return await _told(side, client, ids, took=took, spent=spent, all_spent=all_spent, added=added, turns=turns)


async def _told(
    side: Contender,
    client: Client,
    ids: list[str],
    *,
    took: float,
    spent: float,
    all_spent: float,
    added: Written,
    turns: int,
) -> Burst:
    """With what the sessions' histories say of the burst."""
    histories = [await events_of(client, id) for id in ids]
    costs = [cost for events in histories for cost in costs_in(events, side.model_activity)]
    all_turns = len(ids) * turns
    return Burst(
        sessions_per_s=len(ids) / took,
        turn_s=median(cost.seconds for cost in costs),
        longest_turn_s=max(cost.seconds for cost in costs),
        cpu_per_turn_s=spent / all_turns,
        all_cpu_per_turn_s=all_spent / all_turns,
        kept_per_turn=added.kept / all_turns,
        logged_per_turn=added.logged / all_turns,
        unanswered=sum(unanswered(events) for events in histories),
        unfetched=sum(unfetched(events) for events in histories),
        gap=max(longest_gap(events) for events in histories),
    )


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
