"""`tool check --crash`: what a tool's declared class is worth when its worker is lost at each fault point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast_cli.app import App
from holdfast_cli.asking import user
from holdfast_cli.exits import Exit, Failure
from holdfast_cli.output import cell, table

if TYPE_CHECKING:
    from holdfast.catalogue import ToolCard
    from holdfast_activities.tools.book import ToolBook
    from holdfast_workers.crash_check.report import Report

COLUMNS = {
    "point": "fault point",
    "attempts": "attempts",
    "sent": "sent",
    "effects": "effects",
    "state": "ends",
    "seconds": "seconds",
}


def crash_check(
    app: App, book: ToolBook, card: ToolCard, *, arguments: str, count: str | None, count_url: str | None
) -> int:
    """Run the check and print what it saw."""
    from holdfast_workers.crash_check import counting
    from holdfast_workers.crash_check.run import Subject, check

    if count and count_url:
        raise Failure("Give --count or --count-url, not both.", Exit.USAGE)
    counted = counting.by_command(count) if count else counting.by_url(count_url) if count_url else None
    subject = Subject(card=card, book=book, arguments=text_of(arguments), by=user(), count=counted)
    app.out.say(f"`{card.name}` is called six times, and its worker lost five times.")
    report = app.run(check(app.settings, subject, app.out.say))
    app.out.one(record(report), drawn(report))
    return Exit.DONE if report.ok else Exit.FAILED


def text_of(arguments: str) -> str:
    """The JSON itself, where `@FILE` names a file."""
    if not arguments.startswith("@"):
        return arguments
    try:
        return Path(arguments[1:]).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"Cannot read the arguments from `{arguments[1:]}`: {error}.", Exit.USAGE) from error


def record(report: Report) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "checked": [report.tool],
        "problems": list(report.problems),
        "warnings": [],
        "verdict": report.verdict,
        "runs": [run.model_dump() for run in report.runs],
    }


def drawn(report: Report) -> str:
    rows = [{**run.model_dump(), "point": run.point or "none", "state": ending(run)} for run in report.runs]
    lines = [table([[cell(row[name]) for name in COLUMNS] for row in rows], list(COLUMNS.values())), ""]
    unsettled = [run.effect_id[:12] for run in report.runs if run.state == "unknown" and run.effects is None]
    if unsettled:
        lines += [
            f"Look at the service, and say what happened: `holdfast effect resolve {' '.join(unsettled)}`.",
            "",
        ]
    return "\n".join([*lines, click.style(report.verdict, bold=True)])


def ending(run: Any) -> str:
    return run.state if run.crashed or run.point is None else f"{run.state} (the tool does not pass here)"
