"""`start`, `run`, `send`, `attach`: talking with a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from holdfast_cli.app import App
from holdfast_cli.asking import as_option, limits_of, principal_of, read_message, start_options, user
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.delivery import DELIVERED_FIELDS, tell
from holdfast_cli.exits import Exit
from holdfast_cli.finding import before_last_request, find_session, last_entry, reader_of, taken_at
from holdfast_cli.following.events import EVENTS

if TYPE_CHECKING:
    from holdfast_workers.client import Started

Until = Literal["end", "idle", "waiting"]

END_FIELDS = {"session_id": "the session", **EVENTS["end"]}
START_FIELDS = {
    "session_id": "the session's id, also its workflow's",
    "fresh": "false where the same start was made before: this is that session",
    "status": "as it stands now",
    "ui": "its address in Temporal's UI; null where none is known",
}


@command(
    "start",
    examples=(
        'holdfast start "Summarise the reports in this directory"',
        "holdfast start @question.txt --agent clerk --id case-4711 --label case=4711",
        "git diff | holdfast start -",
    ),
    fields=START_FIELDS,
)
@click.argument("message")
@start_options
@pass_app
def start(app: App, /, message: str, **options: Any) -> int:
    """Start a session with MESSAGE and print its id. MESSAGE may be `-` for standard input, or @FILE.

    With --id the same command again is the same session, also after it ended; the same id with anything else is
    refused.
    """
    app.run(started(app, message, close_when_idle=False, **options))
    return Exit.DONE


async def started(app: App, message: str, *, close_when_idle: bool, **options: Any) -> Started:
    """Start the session, and say so."""
    text = read_message(message)
    principal = principal_of(
        options["as_user"], options["on_behalf_of"], options["tenant"], options["roles"], options["labels"]
    )
    limits = limits_of(
        options["max_turns"],
        options["max_calls"],
        options["max_tokens"],
        options["max_usd"],
        options["max_minutes"],
    )
    async with app.client() as client:
        begun = await client.start(
            text,
            agent=options["agent"],
            session_id=options["session_id"],
            principal=principal,
            limits=limits,
            close_when_idle=close_when_idle,
            priority=options["priority"],
        )
    if not begun.fresh:
        app.out.say(f"The session exists already ({begun.status}).")
    if not close_when_idle:
        fields = {"session_id": begun.session_id, "fresh": begun.fresh, "status": begun.status}
        app.out.one({**fields, "ui": app.ui_of(begun.session_id)}, begun.session_id, quiet=begun.session_id)
    return begun


@command(
    "run",
    examples=(
        'holdfast run "Which words does notes.txt repeat?"',
        "holdfast run @request.md --agent clerk --max-turns 10 --max-usd 0.50",
        'holdfast run "Refund TRV-1042" --until waiting -o jsonl',
        'holdfast run "Say hello" -q > answer.txt',
    ),
    fields=END_FIELDS,
)
@click.argument("message")
@start_options
@click.option(
    "--until",
    type=click.Choice(["end", "waiting"]),
    default="end",
    show_default=True,
    help="waiting: also return when a person is needed (exit code 5), or it is held (6).",
)
@pass_app
def run(app: App, /, message: str, until: Until, **options: Any) -> int:
    """Start a session with MESSAGE, follow it live, and return when it has answered. MESSAGE may be `-` or @FILE.

    Ctrl-C detaches; the session goes on. In a pipe stdout carries only the answer, and -o jsonl one event a line:
    see `holdfast attach --help`.
    """
    from holdfast_cli.following.follow import follow

    begun = app.run(started(app, message, close_when_idle=True, **options))
    return follow(app, begun.session_id, until)


@command(
    "send",
    examples=(
        'holdfast send 0198a7c2 "And the hotel?"',
        "holdfast send 0198a7c2 @more.txt --follow",
        'holdfast send 0198a7c2 "Use the later train" --steer',
    ),
    fields=DELIVERED_FIELDS,
)
@click.argument("session")
@click.argument("message")
@click.option("--steer", is_flag=True, help="Join the request that runs, instead of being the next one.")
@click.option("--id", "message_id", metavar="ID", help="Name the message; sending it again changes nothing.")
@click.option("--follow", "-f", is_flag=True, help="Follow until the session has answered.")
@as_option
@pass_app
def send(
    app: App, session: str, message: str, steer: bool, message_id: str | None, follow: bool, as_user: str | None
) -> int:
    """Send a session its next message: one message is one request, and they are worked on in order.

    A message also answers a question that the session asks. MESSAGE may be `-` or @FILE.
    """
    text = read_message(message)

    async def deliver() -> tuple[str, int, bool]:
        async with app.client() as client:
            found = await find_session(client.ledger, session)
            reader = reader_of(client.ledger)
            # Sent before under this id, it may have been answered already.
            taken = await taken_at(reader, found, message_id) if follow and message_id else None
            seen = await last_entry(reader, found) if follow and taken is None else (taken or 1) - 1
            delivered = await client.send(found, text, by=as_user or user(), message_id=message_id, steer=steer)
        if not follow:
            tell(app, found, delivered, "Sent")
        return found, seen, taken is not None

    session_id, seen, again = app.run(deliver())
    if not follow:
        return Exit.DONE
    from holdfast_cli.following.follow import follow as follow_session
    from holdfast_workers.sending import message_digest

    awaited = None if again else message_digest(text)
    return follow_session(app, session_id, "idle", after=seen, awaited=awaited)


@command(
    "attach",
    examples=(
        "holdfast attach 0198a7c2",
        "holdfast attach 0198a7c2 --until waiting",
        "holdfast attach 0198a7c2 --all -o jsonl",
    ),
    fields=END_FIELDS,
)
@click.argument("session")
@click.option(
    "--until",
    type=click.Choice(["end", "idle", "waiting"]),
    default="end",
    show_default=True,
    help="idle: return when it waits for the next message; waiting: also when a person is needed.",
)
@click.option("--all", "everything", is_flag=True, help="From the session's beginning, not from its last message.")
@pass_app
def attach(app: App, session: str, until: Until, everything: bool) -> int:
    """Follow a session live. Ctrl-C detaches and never stops it; any number may watch, at no cost to the session.

    With -o jsonl each event is one object a line, `event` names its kind: session, status, message, text, restart,
    turn, call, approval, question, decision, end. docs/cli.md lists the fields of each.
    """
    from holdfast_cli.following.follow import follow

    async def named() -> tuple[str, int]:
        async with app.ledger() as ledger:
            found = await find_session(ledger, session)
            return found, 0 if everything else await before_last_request(reader_of(ledger), found)

    session_id, after = app.run(named())
    return follow(app, session_id, until, after=after)
