"""The tables a person reads, for the terminal and for docs/performance.md, from `results.json` alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.table import Table

from benchmarks.results import Long, Near, Range, Ratios, Results, Side

BUSY = 0.5
"""Load for each core above which other work decides the throughput."""
BEGIN, END = "<!-- numbers: written by make bench -->", "<!-- numbers: end -->"

Row = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The first column names the row, the others are numbers. Empty cells say that nothing was measured."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]

    def shown(self) -> Table:
        table = Table(title=self.title)
        for name in self.columns:
            table.add_column(name, justify="right" if name else "left", no_wrap=not name)
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return f"**{self.title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def grids(found: Results) -> list[Grid]:
    return [_sides(found), _long(found), _others(found)]


def note(found: Results) -> str:
    """When and where the numbers were measured, and whether to trust them."""
    machine = found.machine
    load = " ".join(f"{each:.1f}" for each in machine.load)
    said = (
        f"{found.began:%d %B %Y}, {machine.cores} cores ({machine.cpu}), {machine.memory_gb} GB, "
        f"Python {machine.python}, temporalio {machine.temporalio}; {found.seconds / 60:.1f} minutes; "
        f"load average before, after each round, and at the end: {load}."
    )
    if machine.pace_ms:
        paces = " ".join(f"{each:.1f}" for each in machine.pace_ms)
        said += f" The same piece of work took {paces} ms at these moments."
    if machine.load[0] > machine.cores * BUSY:
        said += " The machine was busy before it began: trust the CPU, not the throughput or the latencies."
    return said


def markdown(found: Results) -> str:
    return "\n\n".join([note(found), *(grid.markdown() for grid in grids(found))])


def documented(text: str, found: Results) -> str:
    """A document with the tables between its marks replaced. Raises `ValueError` where it has no marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no place for the tables: expected `{BEGIN}` and `{END}`")
    return f"{before}{begin}\n{markdown(found)}\n{end}{after}"


def _sides(found: Results) -> Grid:
    return Grid(
        title=f"{found.rounds} rounds of {found.sessions} sessions of {found.turns} turns: median (least to most)",
        columns=("", "bare loop", "Holdfast", "ratio", "bar", "inline", "ratio", "bar"),
        rows=list(_side_rows(found)),
    )


def _side_rows(found: Results) -> Iterator[Row]:
    def ranges(
        name: str,
        pick: Callable[[Side], Range],
        ratio: Callable[[Ratios], Range] | None = None,
        *,
        digits: int = 1,
        bars: tuple[str, str] = ("", ""),
    ) -> Row:
        own, inline, bare = (pick(side).text(digits) for side in (found.holdfast, found.inline, found.bare))
        times = (ratio(found.ratios).text(), ratio(found.ratios_inline).text()) if ratio else ("", "")
        return (name, bare, own, times[0], bars[0], inline, times[1], bars[1])

    def numbers(name: str, pick: Callable[[Side], float], bar: str = "") -> Row:
        own, inline, bare = (f"{pick(side):g}" for side in (found.holdfast, found.inline, found.bare))
        return (name, bare, own, "", bar, inline, "", bar)

    yield ranges(
        "sessions/s", lambda it: it.sessions_per_s, lambda it: it.throughput, digits=2, bars=("≥ 0.70", "≥ 0.80")
    )
    yield ranges(
        "turn alone, ms", lambda it: it.lone_turn_ms, lambda it: it.lone_latency, bars=("≤ 1.40", "≤ 1.40")
    )
    yield ranges("turn loaded, ms", lambda it: it.loaded_turn_ms, lambda it: it.loaded_latency, digits=0)
    yield ranges("longest turn loaded, ms", lambda it: it.longest_turn_ms, digits=0)
    yield ranges("worker CPU a turn, ms", lambda it: it.cpu_ms_per_turn, lambda it: it.cpu)
    yield ranges("all CPU a turn, ms", lambda it: it.all_cpu_ms_per_turn, lambda it: it.all_cpu)
    yield ranges("Postgres bytes a turn", lambda it: it.postgres_bytes_per_turn, digits=0)
    yield ranges("WAL bytes a turn", lambda it: it.wal_bytes_per_turn, digits=0)
    yield numbers("events a turn", lambda it: it.events_per_turn, "≤ 12")
    yield numbers("bytes of history a turn", lambda it: it.bytes_per_turn, "≤ 4096")
    yield numbers("billable actions a turn", lambda it: it.billable_actions_per_turn)
    yield numbers("billable actions besides, a session", lambda it: it.billable_actions_besides)
    yield numbers("workflow tasks unanswered", lambda it: it.workflow_tasks_unanswered)
    yield numbers("left in sticky queues", lambda it: it.workflow_tasks_unfetched)


LONG_NAMES = {
    "full": "memory `full`",
    "window": "memory `window`",
    "bare": "bare loop",
}


def _long(found: Results) -> Grid:
    """Each session's early turns beside its late ones."""
    late, sessions = found.late_turn, list(found.long.items())
    columns = [f"{LONG_NAMES[name]}, turn {at}" for name, _ in sessions for at in (10, late)]
    rows = [
        (name, *(f"{pick(near).median:.{digits}f}" for _, each in sessions for near in (each.early, each.late)))
        for name, pick, digits in NEAR_ROWS
    ]
    rows += [_late_row("overhead, late by early", sessions, lambda near: near.overhead_ms)]
    rows += [_late_row("bytes, late by early", sessions, lambda near: near.bytes)]
    rows += [
        ("tokens of the last turn", *_late_cells(f"{each.tokens:,}" if each.tokens else "" for _, each in sessions))
    ]
    rows += [("runs of the workflow", *_late_cells(str(each.runs) for _, each in sessions))]
    return Grid(
        title=f"One session of {late} turns: medians of {2 * found.around + 1} turns",
        columns=("", *columns),
        rows=rows,
    )


NEAR_ROWS: Sequence[tuple[str, Callable[[Near], Range], int]] = (
    ("events", lambda near: near.events, 0),
    ("bytes of history", lambda near: near.bytes, 0),
    ("turn, ms", lambda near: near.total_ms, 1),
    ("building the request, ms", lambda near: near.build_ms, 1),
    ("sending it and the answer, ms", lambda near: near.ask_ms, 1),
    ("overhead, ms", lambda near: near.overhead_ms, 1),
)


def _late_row(name: str, sessions: Sequence[tuple[str, Long]], pick: Callable[[Near], Range]) -> Row:
    return (name, *_late_cells(f"{pick(each.late).median / pick(each.early).median:.2f}" for _, each in sessions))


def _late_cells(cells: Iterator[str]) -> Iterator[str]:
    """Each in the column of its session's late turns."""
    for cell in cells:
        yield from ("", cell)


def _others(found: Results) -> Grid:
    statements = ", ".join(f"{name} {number:g}" for name, number in found.statements_per_turn.items())
    rows: list[Row] = [
        ("chunk to viewer, p50, ms", f"{found.chunk_ms_p50:g}", "≤ 60"),
        (f"the same with {found.many_viewers} viewers", f"{found.chunk_ms_p50_many:g}", "≤ 60"),
        ("Postgres round trips a turn", f"{found.postgres_round_trips_per_turn:g}", ""),
        ("of these", statements, ""),
        (
            f"memory an idle session, of {found.idle_sessions}, KB",
            f"{found.memory_per_idle_session_bytes / 1e3:.0f}",
            "",
        ),
    ]
    return Grid(title="And", columns=("", "Holdfast", "bar"), rows=rows)
