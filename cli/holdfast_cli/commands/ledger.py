"""`ledger show | verify | export`: the record itself, and the proof that nobody edited it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import Entry as Listed
from holdfast_cli.commanding import LazyGroup, command, pass_app
from holdfast_cli.exits import Exit, Failure
from holdfast_cli.finding import find_session, reader_of

if TYPE_CHECKING:
    from holdfast_ledger.verify import Verdict
    from holdfast_ledger.views import Entry
    from holdfast_workers.comparison import Comparison

FIELDS = {
    "seq": "number in the session's chain, from 1",
    "kind": "what it says",
    "at": "when it happened",
    "recorded_at": "when the database wrote it",
    "turn": "its turn",
    "call": "TURN.INDEX",
    "effect_id": "its effect",
    "token": "the attempt's number",
    "saga_id": "its saga",
    "tool": "its tool",
    "tier": "its risk",
    "outcome": "how it came out",
    "actor": "who did it",
    "args_digest": "salted digest of the call's arguments",
    "latency": "seconds it took",
    "body": "the rest; null where it is encrypted",
    "hash": "over everything stored of it and the hash before",
}
VERDICT_FIELDS = {
    "session_id": "the session",
    "ok": "whether its chain is whole",
    "entries": "entries looked at",
    "problem": "what is wrong; null where nothing is",
    "bad_seq": "the first bad entry; null where none is",
}


HERE = "holdfast_cli.commands.ledger"
VERBS = {
    "show": Listed(f"{HERE}:show", "Show a session's entries as they are recorded."),
    "query": Listed(f"{HERE}_query:query", "Find entries in the record of all sessions, newest first."),
    "tail": Listed(f"{HERE}_tail:tail", "Print all sessions' entries as JSON lines, oldest first."),
    "verify": Listed(f"{HERE}:verify", "Recompute hash chains; name what is not whole."),
    "export": Listed(f"{HERE}:export", "Write a session's record as JSON lines."),
}
"""Each verb in a module of its own, imported when it is used."""


@click.group("ledger", cls=LazyGroup, entries=VERBS)
def ledger() -> None:
    """Show, verify and export the record."""


@command(
    "show",
    examples=("holdfast ledger show 0198a7c2", "holdfast ledger show 0198a7c2 -o jsonl --after 40"),
    fields=FIELDS,
)
@click.argument("session")
@click.option("--after", type=click.IntRange(0), default=0, help="Only entries after this number.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only entries of this kind; repeatable.")
@pass_app
def show(app: App, session: str, after: int, kinds: tuple[str, ...]) -> int:
    """Show a session's entries as they are recorded. `holdfast show` tells the same as a story."""

    async def read() -> list[Entry]:
        async with app.ledger() as opened:
            return await reader_of(opened).timeline(await find_session(opened, session), after=after)

    entries = [entry for entry in app.run(read()) if not kinds or entry.kind in kinds]
    rows: list[dict[str, Any]] = [{name: getattr(entry, name) for name in FIELDS} for entry in entries]
    if not app.out.machine:
        rows = [{**row, "hash": row["hash"][:12], "of": row["call"] or row["turn"]} for row in rows]
    columns = {
        "seq": "seq",
        "at": "at",
        "kind": "kind",
        "of": "of",
        "tool": "tool",
        "outcome": "outcome",
        "actor": "actor",
        "hash": "hash",
    }
    app.out.rows(rows, columns, empty="No entries.", key="seq")
    return Exit.DONE


@command(
    "verify",
    examples=(
        "holdfast ledger verify",
        "holdfast ledger verify 0198a7c2",
        "holdfast ledger verify 0198a7c2 --temporal",
        "holdfast ledger verify --file session.jsonl",
    ),
    fields={
        "ok": "whether every chain is whole",
        "sessions": "chains looked at",
        "entries": "entries looked at",
        "bad": f"chains that are not whole: {', '.join(VERDICT_FIELDS)}",
        "compared": "sessions held against Temporal's history; null without --temporal",
        "expired": "sessions Temporal keeps nothing of any more; null without --temporal",
    },
)
@click.argument("session", required=False)
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="An export; no server.")
@click.option("--temporal", is_flag=True, help="Also hold it against Temporal's history, while that is retained.")
@pass_app
def verify(app: App, session: str | None, file: Path | None, temporal: bool) -> int:
    """Recompute the hash chain of SESSION, of all sessions, or of an exported file. Exit code 1 if one is broken.

    The first bad entry was changed, moved, added or lost. A whole chain rewritten with its end cannot be seen
    from here alone: keep an export elsewhere, and compare. With --temporal every answer and outcome that Temporal
    was told of must be in the ledger, too.
    """
    if file and (session or temporal):
        raise Failure("A file is verified alone: leave the session and --temporal out.", Exit.USAGE)
    verdicts = [verify_file(file)] if file else app.run(verify_database(app, session))
    compared = app.run(compare_all(app, verdicts)) if temporal else []
    bad = [{**asdict(verdict), "ok": False} for verdict in verdicts if not verdict.ok]
    bad += [lacking(comparison) for comparison in compared if comparison.problem]
    counts = {"sessions": len(verdicts), "entries": sum(verdict.entries for verdict in verdicts)}
    held = sum(comparison.compared for comparison in compared)
    against = {"compared": held if temporal else None, "expired": len(compared) - held if temporal else None}
    lines = [f"{each['session_id']}: {each['problem']}" for each in bad]
    sum_up = (
        f"{counts['sessions']} sessions, {counts['entries']} entries: {f'{len(bad)} broken' if bad else 'whole'}."
    )
    if temporal:
        sum_up += f" Compared with Temporal: {held}; expired, not compared: {len(compared) - held}."
    fields = {"ok": not bad, **counts, "bad": bad, **against}
    app.out.one(fields, "\n".join([*lines, sum_up]), quiet="broken" if bad else "whole")
    return Exit.FAILED if bad else Exit.DONE


async def compare_all(app: App, verdicts: list[Verdict]) -> list[Comparison]:
    from holdfast_workers.comparison import compare

    async with app.client() as client:
        reader = reader_of(client.ledger)
        return [await compare(client.temporal, reader, verdict.session_id) for verdict in verdicts]


def lacking(comparison: Comparison) -> dict[str, Any]:
    """A session whose ledger lacks something, as the fields of a verdict."""
    return {
        "session_id": comparison.session_id,
        "ok": False,
        "entries": comparison.turns + comparison.calls,
        "problem": comparison.problem,
        "bad_seq": None,
    }


def verify_file(file: Path) -> Verdict:
    from holdfast_ledger.export import verify_export

    with file.open(encoding="utf-8") as lines:
        return verify_export(lines)


async def verify_database(app: App, session: str | None) -> list[Verdict]:
    from holdfast_ledger.verify import verify_all, verify_session

    async with app.ledger() as opened:
        if session:
            return [await verify_session(opened.database, await find_session(opened, session))]
        return [verdict async for verdict in verify_all(opened.database)]


@command(
    "export",
    examples=(
        "holdfast ledger export 0198a7c2 > session.jsonl",
        "holdfast ledger export 0198a7c2 --file session.jsonl",
    ),
)
@click.argument("session")
@click.option("--file", type=click.Path(dir_okay=False, path_type=Path), help="Instead of stdout; must not exist.")
@pass_app
def export(app: App, session: str, file: Path | None) -> int:
    """Write a session's record as JSON lines: a header, then one entry a line. It verifies without a database."""
    if file is None:
        app.run(write_export(app, session, click.echo))
        return Exit.DONE
    try:
        with file.open("x", encoding="utf-8") as opened:
            app.run(write_export(app, session, lambda line: opened.write(f"{line}\n")))
    except FileExistsError:
        raise Failure(f"`{file}` exists already; nothing was written.", Exit.USAGE) from None
    app.out.say(f"Wrote {file}; `holdfast ledger verify --file {file}` verifies it anywhere.")
    return Exit.DONE


async def write_export(app: App, session: str, write: Any) -> None:
    from holdfast_ledger.export import export_session

    async with app.ledger() as opened:
        lines: AsyncIterator[str] = export_session(opened.database, await find_session(opened, session))
        async for line in lines:
            write(line)
