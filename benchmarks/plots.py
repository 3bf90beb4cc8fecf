"""Plots of the long sessions: what each turn left in history, and what it cost besides its model call.

The same numbers give the same bytes. Nothing is painted behind the lines, and no colour is near white or black, so
that the plots can be read on a light page and on a dark one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.long_session import LongSession, Turn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#7d8590"
LINES = {
    "full": ("#2f81f7", "Holdfast, everything remembered"),
    "window": ("#d29922", "Holdfast, a window"),
    "bare": ("#8b949e", "bare loop"),
}
SMOOTHED = 25
"""Turns in the running median."""
FONT: Any = {"font.family": "sans-serif", "font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "holdfast"}


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

    with mpl.rc_context(FONT):
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        axes = figure.subplots()
        smooth: list[float] = []
        for name, session in sessions.items():
            colour, label = LINES[name]
            numbers = [turn.number for turn in session.turns]
            values = [value(turn) for turn in session.turns]
            running = _running_median(values)
            smooth += running
            axes.plot(numbers, values, ".", color=colour, markersize=2, alpha=0.35)
            axes.plot(numbers, running, color=colour, linewidth=1.8, label=label)
        # A few turns lie far above, as those that continue as new: they must not set the scale.
        axes.set_ylim(0, 2 * max(smooth))
        _dress(axes, title)
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", color=INK)
    axes.set_xlabel("turn", color=INK)
    axes.set_xlim(left=0)
    axes.tick_params(colors=INK)
    axes.grid(color=INK, alpha=0.2, linewidth=0.6)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(INK)
    axes.legend(loc="upper right", ncols=3, frameon=False, labelcolor=INK)


def _running_median(values: Sequence[float]) -> list[float]:
    """Of each value and those within half a window of it."""
    half = SMOOTHED // 2
    return [median(values[max(at - half, 0) : at + half + 1]) for at in range(len(values))]
