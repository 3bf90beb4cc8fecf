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
from holdfast_cli.timeline import FIELDS, Moment, read_moments, told

if TYPE_CHECKING:
    from holdfast_ledger.views import Session


@command(
    "show",
    examples=("holdfast show 0198a7c2", "holdfast show 0198a7c2 --json", "holdfast show 0198a7c2 -o jsonl | tail"),
    fields={**SESSION_FIELDS, "timeline": f"one object for each entry: {', '.join(FIELDS)}"},
)
@click.argument("session")
@pass_app
def show(app: App, session: str) -> int:
    """Show how a session stands and what happened in it: messages, turns, calls, decisions, costs.

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
    fields = {**record(app, found), "timeline": [moment.record() for moment in moments]}
    app.out.one(fields, "\n".join([text_of(app, found), "", *told(moments)]), quiet=str(found.status))
    return Exit.DONE
