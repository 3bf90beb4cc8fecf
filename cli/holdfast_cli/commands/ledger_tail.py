"""`ledger tail`: the record of all sessions as one stream, for a log collector."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.commands.ledger_query import FIELDS, record
from holdfast_cli.exits import Exit, Failure
from holdfast_cli.finding import parse_since

if TYPE_CHECKING:
    from holdfast_ledger.positions import Position


@command(
    "tail",
    examples=(
        "holdfast ledger tail > all.jsonl",
        "holdfast ledger tail --since 1d --follow",
        "holdfast ledger tail --after 1795180132123456.019a9e2f-6f8c-7c10-9a4e-1f2a3b4c5d6e.17 --follow",
    ),
    fields=FIELDS,
    traced=False,
)
@click.option("--after", metavar="CURSOR", help="Go on after the entry with this cursor.")
@click.option("--since", metavar="WHEN", help="Begin with what was written since: `2h`, `3d`, or a date.")
@click.option("-f", "--follow", "--watch", "follow", is_flag=True, help="Wait for more, until Ctrl-C.")
@click.option("--limit", type=click.IntRange(1), help="Stop after so many.")
@pass_app
def tail(app: App, after: str | None, since: str | None, follow: bool, limit: int | None) -> int:
    """Print the entries of all sessions as JSON lines, oldest first; from the beginning unless told otherwise.

    Keep the `cursor` of the last line you stored and give it to --after: you get each entry after it once. None is
    skipped, also of transactions that commit late; `seq` of each session has no gaps. Bodies are as stored:
    encrypted ones stay so. An open transaction anywhere on the server holds the stream back until it ends.
    """
    if after and since:
        raise Failure("Give --after or --since, not both.", Exit.USAGE)
    try:
        app.run(print_lines(app, start(after, since), follow=follow, limit=limit))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    return Exit.DONE


def start(after: str | None, since: str | None) -> Position:
    from holdfast_ledger.positions import BEGINNING, Position

    if after:
        return Position.read(after)
    begin = parse_since(since)
    return Position(begin) if begin else BEGINNING


async def print_lines(app: App, after: Position, *, follow: bool, limit: int | None) -> None:
    from holdfast_ledger.feed import read_feed
    from holdfast_ledger.watching import Patience

    patience = Patience(away=lambda error: app.out.say(f"{error} Waiting for it to come back."))
    stalled = "A transaction that is still open on the server holds the stream back; waiting for its end."
    async with app.ledger() as ledger:
        lines = read_feed(
            ledger.database, after=after, follow=follow, patience=patience, stalled=lambda: app.out.say(stalled)
        )
        async with aclosing(lines):
            count = 0
            async for line in lines:
                app.out.event(record(line))
                count += 1
                if count == limit:
                    return
