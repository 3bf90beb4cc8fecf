"""What a command prints: text for people, or JSON for scripts. Results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import click

Row = Mapping[str, Any]


class Output:
    """Writes one command's results in the form asked for."""

    def __init__(self, format: Literal["text", "json", "jsonl"] = "text", *, quiet: bool = False) -> None:
        self.format = format
        self.quiet = quiet

    @property
    def machine(self) -> bool:
        """Whether a program reads this."""
        return self.format != "text"

    @property
    def live(self) -> bool:
        """Whether a person looks at a terminal that can be drawn on."""
        return not self.machine and sys.stdout.isatty()

    def one(self, record: Row, text: str, *, quiet: str | None = None) -> None:
        """Print one record: its fields as JSON, or `text`, or with -q just `quiet`."""
        if self.machine:
            click.echo(to_json(record, pretty=self.format == "json"))
        elif not self.quiet:
            click.echo(text)
        elif quiet is not None:
            click.echo(quiet)

    def rows(self, rows: Sequence[Row], columns: Mapping[str, str], *, empty: str, key: str | None = None) -> None:
        """Print a list: as JSON an array (or one object a line), as text a table of `columns` (field: heading).

        With -q only the field `key` of each row.
        """
        if self.format == "json":
            click.echo(to_json(rows, pretty=True))
        elif self.format == "jsonl":
            for row in rows:
                self.event(row)
        elif self.quiet:
            for row in rows:
                click.echo(row[key or next(iter(columns))])
        elif not rows:
            click.echo(empty, err=True)
        else:
            click.echo(table([[cell(row.get(name)) for name in columns] for row in rows], list(columns.values())))

    def event(self, record: Row) -> None:
        """Print one line of JSON now."""
        click.echo(to_json(record))
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """Tell the person something that is no result."""
        if not self.quiet:
            click.echo(text, err=True)


def table(cells: Sequence[Sequence[str]], headings: Sequence[str]) -> str:
    """Left-aligned columns, two blanks apart; the last one is never padded nor cut."""
    lines = [[heading.upper() for heading in headings], *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def cell(value: Any) -> str:
    """A value as people read it in a table."""
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        return clock(value)
    if isinstance(value, timedelta):
        return span(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={cell(item)}" for name, item in value.items()) or "-"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(cell(item) for item in value) or "-"
    return " ".join(clean(str(value)).split())


# A model's or tool's text must not move the cursor, recolour or rename the terminal it is read in.
_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def clean(text: str) -> str:
    """Text without control characters, lines and tabs kept."""
    return text.translate(_CONTROLS)


def shortened(text: str, width: int = 300) -> str:
    """One line of at most `width` characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def clock(at: datetime) -> str:
    """A time in this machine's zone, to the second."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def money(usd: Decimal | None) -> str:
    """Dollars, or that nobody knows."""
    return "cost unknown" if usd is None else f"${usd.normalize():f}" if usd else "$0"


def share(part: float | None) -> str:
    """`83%`."""
    return "-" if part is None else f"{part:.0%}"


def spent(turns: int, calls: int) -> str:
    """`2 turns, 1 call`."""
    return f"{turns} turn{'s' * (turns != 1)}, {calls} call{'s' * (calls != 1)}"


def span(duration: timedelta) -> str:
    """A duration in its two largest units: `2d 3h`, `4m 10s`, `1.2s`."""
    seconds = max(duration.total_seconds(), 0.0)
    if seconds < 10:
        return f"{seconds:.1f}s"
    parts = []
    rest = int(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def now() -> datetime:
    return datetime.now(UTC)


def to_json(value: Any, *, pretty: bool = False) -> str:
    return json.dumps(value, default=plain, indent=2 if pretty else None, ensure_ascii=False)


def plain(value: Any) -> Any:
    """What JSON has no form for, in one it has: times in ISO 8601 UTC, durations in seconds, money as text."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)
