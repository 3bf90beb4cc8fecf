"""`ledger show`: the record itself. The other verbs are in modules of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import Entry as Listed
from holdfast_cli.commanding import LazyGroup, command, pass_app
from holdfast_cli.exits import Exit
from holdfast_cli.finding import find_session, reader_of, told_of_reading

if TYPE_CHECKING:
    from holdfast_ledger.views import Entry

COLUMNS = {
    "seq": "number in the session's chain, from 1, without gaps",
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
}
"""What every entry has, whoever prints it."""
FIELDS = {
    **COLUMNS,
    "body": "the rest; null where it is encrypted and this process has no master key",
    "hash": "over everything stored of it and the hash before",
}


HERE = "holdfast_cli.commands.ledger"
VERBS = {
    "show": Listed(f"{HERE}:show", "Show a session's entries as they are recorded."),
    "query": Listed(f"{HERE}_query:query", "Find entries in the record of all sessions, newest first."),
    "tail": Listed(f"{HERE}_tail:tail", "Print all sessions' entries as JSON lines, oldest first."),
    "verify": Listed(f"{HERE}_verify:verify", "Recompute hash chains; name what is not whole."),
    "reconcile": Listed(f"{HERE}_reconcile:reconcile", "Hold effects against Temporal's history and probes."),
    "checkpoint": Listed(f"{HERE}_checkpoint:checkpoint", "Sign where all chains stand; export the log of it."),
    "archive": Listed(f"{HERE}_archive:archive", "Move sessions that ended long ago to files."),
    "export": Listed(f"{HERE}_export:export", "Write a session's record as JSON lines."),
    "rotate-key": Listed(f"{HERE}_rotate_key:rotate_key", "Wrap sessions' keys under the newest master key."),
    "erase": Listed(f"{HERE}_erase:erase", "Destroy a session's key: nobody reads its contents again."),
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
            session_id = await find_session(opened, session)
            if notice := await told_of_reading(opened, session_id, "ledger show"):
                app.out.say(notice)
            return await reader_of(opened).timeline(session_id, after=after)

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
