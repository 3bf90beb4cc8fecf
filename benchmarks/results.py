"""What a run found: the model behind `results.json`, and the table a person reads."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Self

import psutil
from rich.table import Table

from holdfast.wire import Strict

CPUINFO = Path("/proc/cpuinfo")
BUSY = 0.5
"""Load for each core above which other work decides the throughput."""


class Range(Strict):
    """Median, least and most of the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        return cls(median=round(median(values), 3), least=round(min(values), 3), most=round(max(values), 3))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """The median, over the rounds, of Holdfast's number by the bare loop's of the same round."""
    return round(median(mine / other for mine, other in pairs), 3)


class Side(Strict):
    """`cpu_ms_per_turn` is the worker process's, in the burst, sessions' begin and end included.

    `all_cpu_ms_per_turn` adds Temporal, Postgres, the model and the client: on a machine that is busy with nothing
    else it decides the throughput, and on one that is it suffers less than the throughput.
    """

    sessions_per_s: Range
    lone_turn_ms: Range
    loaded_turn_ms: Range
    cpu_ms_per_turn: Range
    all_cpu_ms_per_turn: Range


class Machine(Strict):
    cpu: str
    cores: int
    memory_gb: int
    system: str
    python: str
    temporalio: str
    load: tuple[float, ...]
    """One-minute load average before the run, after each round, and after it."""

    @classmethod
    def here(cls, load: Sequence[float]) -> Self:
        return cls(
            cpu=_cpu_name(),
            cores=os.cpu_count() or 0,
            memory_gb=round(psutil.virtual_memory().total / 2**30),
            system=platform.platform(),
            python=platform.python_version(),
            temporalio=version("temporalio"),
            load=tuple(round(each, 2) for each in load),
        )


class Results(Strict):
    """Ratios are Holdfast's number by the bare loop's, the median over rounds."""

    throughput_ratio: float
    lone_latency_ratio: float
    loaded_latency_ratio: float
    cpu_ratio: float
    all_cpu_ratio: float
    throughput_ratio_inline: float
    """The same work with the tool declared `inline`; so are all that end so."""
    lone_latency_ratio_inline: float
    loaded_latency_ratio_inline: float
    cpu_ratio_inline: float
    all_cpu_ratio_inline: float
    bare: Side
    holdfast: Side
    inline: Side
    events_per_turn_inline: int
    bytes_per_turn_inline: int
    events_per_turn: int
    """The most of any turn with one call."""
    bytes_per_turn_at_10: int
    late_turn: int
    bytes_per_turn_late: int
    turn_ms_at_10: float
    turn_ms_late: float
    round_trips_per_turn: float
    statements_per_turn: dict[str, float]
    chunk_ms_p50: float
    """From the model's write of a piece of text to one viewer."""
    chunk_ms_p50_many: float
    many_viewers: int
    rounds: int
    sessions: int
    turns: int
    began: datetime
    machine: Machine


def table(found: Results) -> Table:
    """The numbers that have a bar in the design, beside it, then the others."""
    shown = Table(title=f"{found.rounds} rounds of {found.sessions} sessions of {found.turns} turns")
    for name in ("", "Holdfast", "bare loop", "ratio", "bar"):
        shown.add_column(name, justify="left" if not name else "right")
    for row in _rows(found):
        shown.add_row(*row)
    machine = found.machine
    shown.caption = f"{machine.cores} cores, load {' '.join(f'{each:.1f}' for each in machine.load)}"
    if machine.load[0] > machine.cores * BUSY:
        shown.caption += (
            "\nThe machine was busy before it began: trust the CPU, not the throughput or the latencies."
        )
    return shown


def _rows(found: Results) -> Iterator[tuple[str, str, str, str, str]]:
    own, bare = found.holdfast, found.bare
    yield (
        "sessions/s",
        str(own.sessions_per_s),
        str(bare.sessions_per_s),
        f"{found.throughput_ratio:.2f}",
        "≥ 0.70",
    )
    yield (
        "turn alone, ms",
        str(own.lone_turn_ms),
        str(bare.lone_turn_ms),
        f"{found.lone_latency_ratio:.2f}",
        "≤ 1.40",
    )
    loaded = f"{found.loaded_latency_ratio:.2f}"
    yield ("turn loaded, ms", str(own.loaded_turn_ms), str(bare.loaded_turn_ms), loaded, "")
    yield (
        "worker CPU a turn, ms",
        str(own.cpu_ms_per_turn),
        str(bare.cpu_ms_per_turn),
        f"{found.cpu_ratio:.2f}",
        "",
    )
    all_own, all_bare = str(own.all_cpu_ms_per_turn), str(bare.all_cpu_ms_per_turn)
    yield ("all CPU a turn, ms", all_own, all_bare, f"{found.all_cpu_ratio:.2f}", "")
    yield from _inline_rows(found)
    yield ("events a turn, at most", str(found.events_per_turn), "", "", "≤ 12")
    yield ("bytes a turn, at turn 10", str(found.bytes_per_turn_at_10), "", "", "≤ 4096")
    flat = f"{found.bytes_per_turn_late / found.bytes_per_turn_at_10:.2f}"
    yield (f"bytes a turn, at turn {found.late_turn}", str(found.bytes_per_turn_late), "", flat, "≤ 1.10")
    slower = f"{found.turn_ms_late / found.turn_ms_at_10:.2f}"
    yield (
        f"turn {found.late_turn} against turn 10, ms",
        f"{found.turn_ms_late}",
        f"{found.turn_ms_at_10}",
        slower,
        "",
    )
    yield ("Postgres round trips a turn", f"{found.round_trips_per_turn:.1f}", "", "", "")
    yield ("chunk to viewer, ms, p50", f"{found.chunk_ms_p50}", "", "", "≤ 60")
    yield (f"the same, {found.many_viewers} viewers", f"{found.chunk_ms_p50_many}", "", "", "≤ 60")


def _inline_rows(found: Results) -> Iterator[tuple[str, str, str, str, str]]:
    """The same with reads inside the workflow task."""
    inline, bare = found.inline, found.bare
    numbers = (
        ("sessions/s", inline.sessions_per_s, bare.sessions_per_s, found.throughput_ratio_inline, "≥ 0.80"),
        ("turn alone, ms", inline.lone_turn_ms, bare.lone_turn_ms, found.lone_latency_ratio_inline, "≤ 1.40"),
        ("turn loaded, ms", inline.loaded_turn_ms, bare.loaded_turn_ms, found.loaded_latency_ratio_inline, ""),
        ("worker CPU a turn, ms", inline.cpu_ms_per_turn, bare.cpu_ms_per_turn, found.cpu_ratio_inline, ""),
        (
            "all CPU a turn, ms",
            inline.all_cpu_ms_per_turn,
            bare.all_cpu_ms_per_turn,
            found.all_cpu_ratio_inline,
            "",
        ),
    )
    for name, own, other, times, bar in numbers:
        yield (f"inline: {name}", str(own), str(other), f"{times:.2f}", bar)
    yield ("inline: events a turn, at most", str(found.events_per_turn_inline), "", "", "")
    yield ("inline: bytes a turn", str(found.bytes_per_turn_inline), "", "", "")


def _cpu_name() -> str:
    if not CPUINFO.exists():
        return platform.processor() or platform.machine()
    lines = CPUINFO.read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
