"""`show`: what happened in a session, as a person follows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.commands.session import FIELDS as SESSION_FIELDS
from holdfast_cli.commands.session import record, text_of
from holdfast_cli.exits import Exit
from holdfast_cli.finding import find_session, reader_of, told_of_reading
from holdfast_cli.output import span
from holdfast_cli.timeline import FIELDS, Moment, read_moments, told

if TYPE_CHECKING:
    from holdfast_ledger.views import Session


@command(
    "show",
    examples=("holdfast show 0198a7c2", "holdfast show 0198a7c2 --json", "holdfast show 0198a7c2 -o jsonl | tail"),
    fields={
        **SESSION_FIELDS,
        "seconds": "from its start to its end, or to the last thing that happened",
        "undone": "calls that were undone, as TURN.INDEX",
        "timeline": f"one object for each entry: {', '.join(FIELDS)}",
    },
)
@click.argument("session")
@pass_app
def show(app: App, session: str) -> int:
    """Show how a session stands and what happened in it: who said, allowed and did what, how long it took, what it
    cost, and what was undone.

    With -o jsonl the timeline alone, one object a line. It is read from the ledger, so Temporal may be away.
    `holdfast ledger show` has every entry with its hash.
    """

    async def read() -> tuple[Session, list[Moment]]:
        async with app.ledger() as ledger:
            reader = reader_of(ledger)
            session_id = await find_session(ledger, session)
            if notice := await told_of_reading(ledger, session_id, "show"):
                app.out.say(notice)
            return await reader.session(session_id), await read_moments(reader, session_id)

    found, moments = app.run(read())
    if app.flags.output == "jsonl":
        for moment in moments:
            app.out.event(moment.record())
        return Exit.DONE
    took = (found.ended_at or max(each.at for each in moments)) - found.registered_at if moments else None
    undone = [
        each.undoes for each in moments if each.undoes and each.kind == "effect_outcome" and each.outcome == "done"
    ]
    fields = {
        **record(app, found),
        "seconds": took,
        "undone": undone,
        "timeline": [moment.record() for moment in moments],
    }
    more = {"took": took and span(took), "undone": ", ".join(undone)}
    head = [text_of(app, found), *(f"  {name:<8}  {value}" for name, value in more.items() if value)]
    app.out.one(fields, "\n".join([*head, "", *told(moments)]), quiet=str(found.status))
    return Exit.DONE
