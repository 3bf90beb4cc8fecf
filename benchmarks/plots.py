"""Plots of the long sessions: what each turn left in history, and what it cost besides its model call.

The same numbers give the same bytes. Nothing is painted behind the lines, and no colour is near white or black, so
that the plots can be read on a light page and on a dark one.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from math import nan
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.long_session import LongSession, Turn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#7d8590"
LINES = {
    "full": ("#2f81f7", 3.2, "memory full"),
    "window": ("#d29922", 1.4, "memory window"),
    "bare": ("#8b949e", 1.8, "bare loop"),
}
"""Colour, width and name: the first two lie on each other."""
SMOOTHED = 25
"""Turns in the running median."""
DOT = 0.01
"""Turns."""
DIGITS = re.compile(r"(\d+\.\d\d)\d+")
"""More of them than anybody sees."""
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "path.simplify": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "holdfast",
}


def draw(sessions: Mapping[str, LongSession], directory: Path) -> list[Path]:
    """Write `history-per-turn.svg` and `overhead-per-turn.svg`."""
    history = directory / "history-per-turn.svg"
    overhead = directory / "overhead-per-turn.svg"
    _plot(sessions, lambda turn: turn.size / 1000, "KB of history in a turn", history)
    _plot(sessions, lambda turn: turn.overhead_ms, "overhead of a turn, ms", overhead)
    return [history, overhead]


def _plot(sessions: Mapping[str, LongSession], value: Callable[[Turn], float], title: str, path: Path) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    drawn = io.StringIO()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        axes = figure.subplots()
        highest = 0.0
        for name, session in sessions.items():
            colour, width, label = LINES[name]
            numbers, values = [turn.number for turn in session.turns], [value(turn) for turn in session.turns]
            running = _running_median(values)
            highest = max(highest, *running)
            axes.plot(*_dots(numbers, values), color=colour, linewidth=2, alpha=0.4, solid_capstyle="round")
            axes.plot(numbers, running, color=colour, linewidth=width, label=label)
        # A few turns lie far above, as those that continue as new: they must not set the scale.
        axes.set_ylim(0, 2 * highest)
        _dress(axes, title)
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    path.write_text(DIGITS.sub(r"\1", drawn.getvalue()))


def _dots(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    """Points as one broken line of no length: a marker for each would make the file four times as large."""
    return [x for at in xs for x in (at, at + DOT, nan)], [y for at in ys for y in (at, at, nan)]


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", color=INK)
    axes.set_xlabel("turn", color=INK)
    axes.margins(x=0.01)
    axes.set_xlim(left=0)
    axes.tick_params(colors=INK)
    axes.grid(color=INK, alpha=0.2, linewidth=0.6)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(INK)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, labelcolor=INK, borderaxespad=0)


def _running_median(values: Sequence[float]) -> list[float]:
    """Of each value and those within half a window of it."""
    half = SMOOTHED // 2
    return [median(values[max(at - half, 0) : at + half + 1]) for at in range(len(values))]
