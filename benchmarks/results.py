"""What a run found: the model behind `results.json`."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Self

import psutil

from holdfast.wire import Strict

CPUINFO = Path("/proc/cpuinfo")


class Range(Strict):
    """Median, least and most: of the rounds, or of a long session's turns near one."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        return cls(median=round(median(values), 3), least=round(min(values), 3), most=round(max(values), 3))

    def text(self, digits: int = 2) -> str:
        if self.least == self.most:
            return f"{self.median:.{digits}f}"
        return f"{self.median:.{digits}f} ({self.least:.{digits}f} to {self.most:.{digits}f})"

    def __str__(self) -> str:
        return self.text()


def ratio(pairs: Sequence[tuple[float, float]]) -> Range:
    """Over the rounds, Holdfast's number by the bare loop's of the same round."""
    return Range.of([mine / other for mine, other in pairs])


class Ratios(Strict):
    """Holdfast's number by the bare loop's."""

    throughput: Range
    lone_latency: Range
    loaded_latency: Range
    cpu: Range
    all_cpu: Range


class Side(Strict):
    """`cpu_ms_per_turn` is the worker process's, in the burst, sessions' beginning and end included.

    `all_cpu_ms_per_turn` adds Temporal, Postgres, the model and the client: on a machine that is busy with nothing
    else it decides the throughput, and on one that is it suffers less than the throughput.
    """

    sessions_per_s: Range
    lone_turn_ms: Range
    loaded_turn_ms: Range
    longest_turn_ms: Range
    cpu_ms_per_turn: Range
    all_cpu_ms_per_turn: Range
    postgres_bytes_per_turn: Range
    """The growth of the database in the burst; the ledger's chain and the transcript are most of it."""
    wal_bytes_per_turn: Range
    events_per_turn: int
    """Of a lone session's turns, the median; the most of any round."""
    bytes_per_turn: int
    billable_actions_per_turn: float
    billable_actions_besides: float
    """What a session of one request adds to those of its turns: its start, its last answer, its end."""
    workflow_tasks_unanswered: int
    """In all bursts: a worker had them and gave no answer within ten seconds."""
    workflow_tasks_unfetched: int
    """A busy worker left them in its sticky queue until they were given to any worker."""
    longest_gap_ms: Range
    """Between two events of a session in a burst."""


class Near(Strict):
    """The turns of a long session near one, in milliseconds and bytes."""

    events: Range
    bytes: Range
    total_ms: Range
    build_ms: Range
    ask_ms: Range
    """From sending the request to the end of the answer, the model's own time included."""
    overhead_ms: Range
    """All the rest."""


class Long(Strict):
    """A session whose tool results are a page each."""

    turns: int
    runs: int
    """Of the workflow: one more than it continued as new."""
    tokens: int | None
    """Of the last turn, as the API counted them; the bare loop does not keep them."""
    events_per_turn_mean: float
    """Over all turns, continue-as-new included."""
    early: Near
    late: Near


class Machine(Strict):
    cpu: str
    cores: int
    memory_gb: int
    system: str
    python: str
    temporalio: str
    load: tuple[float, ...]
    """One-minute load average before the run, after each round, and after it."""
    pace_ms: tuple[float, ...] = ()
    """`pace.pace_ms` at the same moments."""

    @classmethod
    def here(cls, load: Sequence[float], pace_ms: Sequence[float] = ()) -> Self:
        return cls(
            cpu=_cpu_name(),
            cores=os.cpu_count() or 0,
            memory_gb=round(psutil.virtual_memory().total / 2**30),
            system=platform.platform(),
            python=platform.python_version(),
            temporalio=version("temporalio"),
            load=tuple(round(each, 2) for each in load),
            pace_ms=tuple(pace_ms),
        )


class Results(Strict):
    """The first numbers are those that have bars, and what else a reader compares: medians.

    Below them stand the sides with all they measured, each number with its least and most.
    """

    throughput_ratio: float
    throughput_ratio_inline: float
    lone_latency_ratio: float
    lone_latency_ratio_inline: float
    events_per_turn: int
    events_per_turn_inline: int
    bytes_per_turn_at_10: int
    bytes_per_turn_at_1000: int | None
    """None where the long session was shorter; so with the next."""
    overhead_ms_at_10: float
    overhead_ms_at_1000: float | None
    memory_per_idle_session_bytes: int
    postgres_bytes_per_turn: int
    wal_bytes_per_turn: int
    postgres_round_trips_per_turn: float
    billable_actions_per_turn: float
    billable_actions_per_turn_inline: float
    chunk_ms_p50: float
    """From the model's write of a piece of text to one viewer."""
    chunk_ms_p50_many: float

    ratios: Ratios
    ratios_inline: Ratios
    """The same work with the tool declared `inline`."""
    holdfast: Side
    inline: Side
    bare: Side
    late_turn: int
    around: int
    """The early and late numbers are those of turns this near."""
    long: Mapping[str, Long]
    """`full` and `window`: Holdfast with that memory. `bare`: the loop, which sends as much as `full`."""
    statements_per_turn: Mapping[str, float]
    many_viewers: int
    idle_sessions: int
    rounds: int
    sessions: int
    turns: int
    began: datetime
    seconds: float
    machine: Machine


def _cpu_name() -> str:
    if not CPUINFO.exists():
        return platform.processor() or platform.machine()
    lines = CPUINFO.read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
