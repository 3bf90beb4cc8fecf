"""What a soak found: the model behind `soak.json`, its bars, and the table a person reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from statistics import median

from rich.table import Table

from benchmarks.results import Machine
from holdfast.wire import Strict

FLAT_HISTORY = 1.10
FLAT_TIME = 1.5
FLAT_STORED = 1.25
MEMORY_BAR_MB = 100


class Stage(Strict):
    """A tenth of the messages, sent while some are queued."""

    answered: int
    """Messages, at its end."""
    ms_per_message: float
    cpu_ms_per_message: float
    """Of the worker."""
    rss_mb: float
    """Of the worker, at its end."""
    stored_per_message: int
    """Bytes that the database grew, by the messages."""


class Run(Strict):
    """One run of the session's workflow, from its start to its continue-as-new."""

    messages: int
    events_per_message: float
    bytes_per_message: float
    carried: int
    """Bytes of its first event: what it was given by the run before."""


class Results(Strict):
    messages: int
    memory: str
    runs: int
    answered_once_in_order: int
    """Messages of the transcript that are followed by their own answer, each once, none missing before."""
    alone_ms_early: float
    """From `send` to the answer in Postgres, with nothing queued: the median of the first messages."""
    alone_ms_late: float
    """The same of the last."""
    stages: tuple[Stage, ...]
    early: Run
    late: Run
    """The first and the last run that both began and ended with a continue-as-new, where there are any."""
    verified_entries: int
    """Entries of the session's chain, which verifies."""
    took_s: float
    began: datetime
    machine: Machine

    @property
    def missed(self) -> list[str]:
        """The bars that were missed."""
        first, last = self.stages[0], self.stages[-1]
        early, late = self.early, self.late
        bars = (
            (self.answered_once_in_order == self.messages, "every message is answered once, in order"),
            (late.events_per_message <= early.events_per_message * FLAT_HISTORY, "events a message are flat"),
            (
                late.bytes_per_message <= early.bytes_per_message * FLAT_HISTORY,
                "bytes of history a message are flat",
            ),
            (self.alone_ms_late <= self.alone_ms_early * FLAT_TIME, f"a lone message within {FLAT_TIME}x"),
            (last.ms_per_message <= first.ms_per_message * FLAT_TIME, f"queued messages within {FLAT_TIME}x"),
            (last.rss_mb - first.rss_mb < MEMORY_BAR_MB, f"the worker grows by less than {MEMORY_BAR_MB} MB"),
            (
                last.stored_per_message <= first.stored_per_message * FLAT_STORED,
                "bytes in Postgres a message are flat",
            ),
        )
        return [bar for held, bar in bars if not held]


def middle_ms(seconds: Sequence[float]) -> float:
    return round(median(seconds) * 1000, 1)


def table(found: Results) -> Table:
    shown = Table(title=f"{found.messages} messages to one session, memory {found.memory}")
    for name in ("", "early", "late", "ratio", "bar"):
        shown.add_column(name, justify="left" if not name else "right")
    for row in _rows(found):
        shown.add_row(*row)
    machine = found.machine
    shown.caption = (
        f"{found.took_s:.0f} s, {found.runs} runs of the workflow, {found.verified_entries} entries verify; "
        f"{machine.cores} cores, load {' '.join(f'{each:.1f}' for each in machine.load)}"
    )
    return shown


def _rows(found: Results) -> Iterator[tuple[str, str, str, str, str]]:
    first, last, early, late = found.stages[0], found.stages[-1], found.early, found.late

    def pair(name: str, before: float, after: float, bar: str = "") -> tuple[str, str, str, str, str]:
        return name, f"{before:.1f}", f"{after:.1f}", f"{after / before:.2f}" if before else "", bar

    yield "answered once, in order", "", str(found.answered_once_in_order), "", str(found.messages)
    yield pair("a lone message, ms", found.alone_ms_early, found.alone_ms_late, f"≤ {FLAT_TIME}x")
    yield pair("a queued message, ms", first.ms_per_message, last.ms_per_message, f"≤ {FLAT_TIME}x")
    yield pair("worker CPU a message, ms", first.cpu_ms_per_message, last.cpu_ms_per_message)
    yield pair("events a message", early.events_per_message, late.events_per_message, f"≤ {FLAT_HISTORY}x")
    yield pair("bytes of history a message", early.bytes_per_message, late.bytes_per_message, f"≤ {FLAT_HISTORY}x")
    yield pair("carried to the next run, bytes", early.carried, late.carried)
    yield pair("messages in a run", early.messages, late.messages)
    yield pair("worker's memory, MB", first.rss_mb, last.rss_mb, f"+ {MEMORY_BAR_MB} MB")
    stored = pair("bytes in Postgres a message", first.stored_per_message, last.stored_per_message)
    yield (*stored[:4], f"≤ {FLAT_STORED}x")
