"""What a run of the crowd found: the model behind `crowd.json`, its bars, and the table a person reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from statistics import quantiles
from typing import Self

from rich.table import Table

from benchmarks.results import Machine
from holdfast.wire import Strict

MEMORY_BAR_MB = 100
STEADY_BAR_S = 2
FLOOD_BAR_S = 90


class Delays(Strict):
    """Seconds from `decide` being called to Postgres having recorded the call as done."""

    count: int
    p50: float
    p95: float
    p99: float
    most: float

    @classmethod
    def of(cls, delays: Sequence[float]) -> Self:
        cuts = quantiles(delays, n=100, method="inclusive")
        p50, p95, p99 = (round(cuts[at - 1], 3) for at in (50, 95, 99))
        return cls(count=len(delays), p50=p50, p95=p95, p99=p99, most=round(max(delays), 3))

    def __str__(self) -> str:
        return f"{self.p50:.2f} / {self.p95:.2f} / {self.p99:.2f} / {self.most:.2f}"


class Phase(Strict):
    """So many decisions, and what became of them."""

    delays: Delays
    all_within_s: float
    """From the first decision to the last call's record."""
    recorded: int
    """Decisions that no worker answered in time, and that went as signals."""
    cpu_ms: float
    """Of the worker, for one decision and the rest of its session."""


class Gathered(Strict):
    """From the first start to the last ask in the ledger."""

    per_s: float
    cpu_ms: float
    """Of the worker, for one session."""


class Restarted(Strict):
    """Decisions that began with the kill of the worker."""

    phase: Phase
    """Counted from each decision, though no worker was there."""
    ready_after_s: float
    """From `kill -9` until the next worker polled."""
    from_ready: Delays
    """Counted from then where that is later than the decision."""


class Memory(Strict):
    """RSS of the worker process, in MB of a million bytes."""

    started: float
    """It polls, and has served nobody."""
    warm: float
    waiting: float
    """All sessions wait."""
    settled: float
    """The same, a while later."""
    most: float
    """Seen while they started."""
    after_steady: float
    restarted: float
    """Of the second worker, once it has acted on the decisions of its phase."""
    after_flood: float

    @property
    def above_start(self) -> float:
        return max(self.waiting, self.settled) - self.started


class Results(Strict):
    sessions: int
    rate: float
    """Decisions a second in the two steady phases."""
    gathered: Gathered
    memory: Memory
    above_start_mb: float
    kb_per_session: float
    """Of what is above the warm worker."""
    steady: Phase
    restarted: Restarted
    flood: Phase
    moved: int
    """Workflow tasks that waited over a second for the worker which kept their session, in the same histories."""
    went_wrong: dict[str, int]
    """Workflow tasks and activities that timed out or failed, in the histories of `sampled` sessions."""
    sampled: int
    verified: int
    """Sessions whose chains verify."""
    began: datetime
    machine: Machine

    @property
    def missed(self) -> list[str]:
        """The bars that were missed."""
        bars = (
            (self.above_start_mb < MEMORY_BAR_MB, f"memory above start under {MEMORY_BAR_MB} MB"),
            (self.steady.delays.most <= STEADY_BAR_S, f"each decision acted on within {STEADY_BAR_S} s"),
            (self.restarted.from_ready.most <= STEADY_BAR_S, f"also after a restart, within {STEADY_BAR_S} s"),
            (self.flood.all_within_s <= FLOOD_BAR_S, f"all at once within {FLOOD_BAR_S} s"),
        )
        return [bar for held, bar in bars if not held]


def table(found: Results) -> Table:
    shown = Table(title=f"{found.sessions} sessions wait for approval on one worker process")
    for name in ("", "measured", "bar"):
        shown.add_column(name, justify="left" if not name else "right")
    for row in _rows(found):
        shown.add_row(*row)
    machine = found.machine
    shown.caption = f"{machine.cores} cores, load {' '.join(f'{each:.1f}' for each in machine.load)}"
    return shown


def _rows(found: Results) -> Iterator[tuple[str, str, str]]:
    memory, flood = found.memory, found.flood
    yield "started and asked, sessions/s", f"{found.gathered.per_s:.1f}", ""
    yield "worker CPU until the ask, ms", f"{found.gathered.cpu_ms:.1f}", ""
    yield "worker's memory at start, warm, MB", f"{memory.started:.0f}, {memory.warm:.0f}", ""
    yield "all waiting, settled, MB", f"{memory.waiting:.0f}, {memory.settled:.0f}", ""
    yield "above start, MB", f"{found.above_start_mb:.0f}", f"< {MEMORY_BAR_MB}"
    yield "a waiting session, kB", f"{found.kb_per_session:.1f}", ""
    bar = f"≤ {STEADY_BAR_S} each"
    yield f"{found.rate:g} decisions/s: p50 / p95 / p99 / most, s", str(found.steady.delays), bar
    yield "kill -9 to the next worker polling, s", f"{found.restarted.ready_after_s:.1f}", ""
    yield "from then on: p50 / p95 / p99 / most, s", str(found.restarted.from_ready), bar
    yield "the same from the decision, s", str(found.restarted.phase.delays), ""
    yield (
        f"{flood.delays.count} at once: the last acted on after, s",
        f"{flood.all_within_s:.1f}",
        f"≤ {FLOOD_BAR_S}",
    )
    yield "each of them, from its own decision, s", str(flood.delays), ""
    signals = f"{found.steady.recorded}, {found.restarted.phase.recorded}, {flood.recorded}"
    yield "decisions that went as signals", signals, ""
    cpu = f"{found.steady.cpu_ms:.0f}, {found.restarted.phase.cpu_ms:.0f}, {flood.cpu_ms:.0f}"
    yield "worker CPU a decision, ms", cpu, ""
    wrong = ", ".join(f"{number} {what}" for what, number in found.went_wrong.items()) or "none"
    yield f"gone wrong in {found.sampled} histories", wrong, ""
    yield "tasks moved to another queue in them", str(found.moved), ""
    yield "chains that verify", str(found.verified), ""
