"""`show`: what happened in a session, as a person follows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast_cli import context
from holdfast_cli.app import App
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.commands.session import FIELDS as SESSION_FIELDS
from holdfast_cli.commands.session import record, text_of
from holdfast_cli.exits import Exit, Failure
from holdfast_cli.finding import find_session, reader_of, told_of_reading
from holdfast_cli.output import span
from holdfast_cli.timeline import FIELDS, Moment, read_moments, told

if TYPE_CHECKING:
    from holdfast_activities.messages_api.sent import Sent
    from holdfast_ledger.views import Archive, Session


@command(
    "show",
    examples=(
        "holdfast show 0198a7c2",
        "holdfast show 0198a7c2 --json",
        "holdfast show 0198a7c2 -o jsonl | tail",
        "holdfast show 0198a7c2 --turn 3 --context",
    ),
    fields={
        **SESSION_FIELDS,
        "seconds": "from its start to its end, or to the last thing that happened",
        "undone": "calls that were undone, as TURN.INDEX",
        "archive": "the file that holds its record, with the timeline; null while it is here",
        "timeline": f"one object for each entry: {', '.join(FIELDS)}",
        "with --context": f"instead: {', '.join(context.FIELDS)}",
    },
)
@click.argument("session")
@click.option("--turn", type=click.IntRange(1), metavar="N", help="With --context: which turn.")
@click.option("--context", "what_it_saw", is_flag=True, help="Exactly what the model was sent in turn N.")
@pass_app
def show(app: App, session: str, turn: int | None, what_it_saw: bool) -> int:
    """Show how a session stands and what happened in it: who said, allowed and did what, how long it took, what it
    cost, and what was undone.

    With -o jsonl the timeline alone, one object a line. It is read from the ledger, so Temporal may be away.
    `holdfast ledger show` has every entry with its hash.

    With --turn N --context what the model was sent in that turn, to the byte: built again from the stored messages
    and tools, and held against the digest that was recorded when it was sent. Exit code 1 if they differ.
    """
    if what_it_saw != (turn is not None):
        raise Failure("`--turn N` and `--context` belong together.", Exit.USAGE)
    if turn is not None:
        return show_context(app, session, turn)

    async def read() -> tuple[Session, list[Moment], Archive | None]:
        async with app.ledger() as ledger:
            reader = reader_of(ledger)
            session_id = await find_session(ledger, session)
            if notice := await told_of_reading(ledger, session_id, "show"):
                app.out.say(notice)
            moments = await read_moments(reader, session_id)
            return await reader.session(session_id), moments, await reader.archived(session_id)

    found, moments, archive = app.run(read())
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
        "archive": archive and archive.file,
        "timeline": [moment.record() for moment in moments],
    }
    more = {"took": took and span(took), "undone": ", ".join(undone)}
    head = [text_of(app, found), *(f"  {name:<8}  {value}" for name, value in more.items() if value)]
    app.out.one(fields, "\n".join([*head, "", *told(moments)]), quiet=str(found.status))
    return Exit.DONE


def show_context(app: App, session: str, turn: int) -> int:
    """Print what the model was sent in a turn, and whether the record agrees."""

    async def read() -> tuple[str, Sent]:
        from holdfast_activities.messages_api.sent import sent_in

        async with app.ledger() as ledger:
            session_id = await find_session(ledger, session)
            if notice := await told_of_reading(ledger, session_id, "show"):
                raise Failure(notice)
            return session_id, await sent_in(ledger, session_id, turn)

    session_id, sent = app.run(read())
    verdict = context.verdict(sent)
    app.out.one(
        context.record(session_id, sent), "\n".join([*context.told(sent), verdict]), quiet=str(sent.matches).lower()
    )
    return Exit.DONE if sent.matches else Exit.FAILED
