"""`ledger query`: entries of all sessions, by what an auditor asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast_cli.app import App
from holdfast_cli.asking import pairs
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.commands.ledger import COLUMNS
from holdfast_cli.exits import Exit
from holdfast_cli.finding import find_session, parse_since

if TYPE_CHECKING:
    from holdfast_ledger.lines import Line

FIELDS = {
    "cursor": "where it stands; `ledger query --before` and `ledger tail --after` go on from it",
    "session_id": "its session; `@operations` is what people did beside any session",
    "agent": "the session's agent",
    **COLUMNS,
    "fact_key": "what makes telling it twice one entry",
    "key_id": "the key its body is encrypted with; null where it is plain",
    "body": "the rest, as stored; null where it is encrypted",
    "body_hex": "the encrypted body, as stored; null where it is plain",
    "prev": "hash of the entry before",
    "hash": "over everything stored of it and the hash before",
}
TIERS = ("read", "reversible", "irreversible", "privileged")


def record(line: Line) -> dict[str, Any]:
    return {name: getattr(line, name) for name in FIELDS}


@command(
    "query",
    examples=(
        "holdfast ledger query --tool send_invoice --outcome done --since 7d",
        "holdfast ledger query --approver bob --tier irreversible -o jsonl",
        "holdfast ledger query --kind tool_disabled --kind tool_enabled",
        "holdfast ledger query --label case=4711 --since 2026-01-01 --until 2026-02-01 --limit 1000 --json",
    ),
    fields=FIELDS,
)
@click.option("--tool", "tools", multiple=True, metavar="NAME", help="Only of this tool; repeatable.")
@click.option("--tier", "tiers", type=click.Choice(TIERS), multiple=True, help="Only of this risk; repeatable.")
@click.option("--approver", metavar="NAME", help="Only of calls that this person allowed or denied.")
@click.option("--actor", metavar="NAME", help="Only what this person, policy or model did.")
@click.option(
    "--outcome", "outcomes", multiple=True, metavar="WORD", help="done, failed, unknown, denied...; repeatable."
)
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Only of sessions so labelled.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only entries of this kind; repeatable.")
@click.option("--session", metavar="SESSION", help="Only of this session.")
@click.option("--agent", metavar="NAME", help="Only of this agent's sessions.")
@click.option("--since", metavar="WHEN", help="Only written since: `2h`, `3d`, or a date.")
@click.option("--until", metavar="WHEN", help="Only written before.")
@click.option("--before", metavar="CURSOR", help="The page after the entry with this cursor: what is older.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many.")
@pass_app
def query(app: App, /, labels: tuple[str, ...], before: str | None, limit: int, **given: Any) -> int:
    """Find entries in the record of all sessions, newest first.

    Every option narrows; of one given more than once any will do. Times are those of the database's clock, when an
    entry was written.
    """

    async def read() -> list[Line]:
        from holdfast_ledger.positions import Position
        from holdfast_ledger.searching import Wanted, search

        position = Position.read(before) if before else None
        async with app.ledger() as ledger:
            session = given.pop("session")
            wanted = Wanted(
                session_id=await find_session(ledger, session) if session else None,
                labels=pairs(labels),
                since=parse_since(given.pop("since")),
                until=parse_since(given.pop("until")),
                **given,
            )
            return await search(ledger.database, wanted, before=position, limit=limit)

    lines = app.run(read())
    columns = {
        "recorded_at": "written",
        "session_id": "session",
        "seq": "seq",
        "kind": "kind",
        "call": "call",
        "tool": "tool",
        "outcome": "outcome",
        "actor": "actor",
    }
    app.out.rows([record(line) for line in lines], columns, empty="No entries.", key="cursor")
    if len(lines) == limit and not app.out.machine:
        app.out.say(f"There may be older ones: add --before {lines[-1].cursor}")
    return Exit.DONE
