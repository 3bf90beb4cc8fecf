"""`interrupt`, `abort`, `close`: the three ways to stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from holdfast_cli.app import App
from holdfast_cli.asking import as_option, user
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.delivery import DELIVERED_FIELDS, tell
from holdfast_cli.exits import Exit
from holdfast_cli.finding import find_session

if TYPE_CHECKING:
    from holdfast_workers.client import Delivered, Holdfast

Stop = Callable[["Holdfast"], Callable[..., Awaitable["Delivered"]]]


async def stop(app: App, session: str, verb: Stop, done: str, *, by: str | None, reason: str) -> int:
    async with app.client() as client:
        found = await find_session(client.ledger, session)
        delivered = await verb(client)(found, by=by or user(), reason=reason)
    tell(app, found, delivered, done)
    return Exit.DONE


@command(
    "interrupt",
    examples=("holdfast interrupt 0198a7c2", 'holdfast interrupt 0198a7c2 --reason "wrong direction"'),
    fields=DELIVERED_FIELDS,
)
@click.argument("session")
@click.option("--reason", default="", help="Recorded with the command.")
@as_option
@pass_app
def interrupt(app: App, session: str, reason: str, as_user: str | None) -> int:
    """Stop the turn that runs. What was said so far is kept, and the session waits for its next message."""
    done = "Interrupted; `holdfast send` goes on."
    return app.run(stop(app, session, lambda client: client.interrupt, done, by=as_user, reason=reason))


@command(
    "abort",
    examples=("holdfast abort 0198a7c2", 'holdfast abort 0198a7c2 --reason "the customer cancelled"'),
    fields=DELIVERED_FIELDS,
)
@click.argument("session")
@click.option("--reason", default="", help="Recorded with the command.")
@as_option
@pass_app
def abort(app: App, session: str, reason: str, as_user: str | None) -> int:
    """Stop the request that runs, and undo what it did: newest first, by each tool's own undo.

    A write that was sent already is waited for first. The request's saga ends ABORTED where nothing stands; else it
    is HELD or STUCK until a person says more (`holdfast saga show`). The agent's policy may keep what was done, or
    leave it to a person: `on_abort`. A Temporal cancel aborts too, and ends the session.
    """
    done = "Aborted. What it did is undone, as the agent's policy says: `holdfast saga list` tells how far."
    return app.run(stop(app, session, lambda client: client.abort, done, by=as_user, reason=reason))


@command(
    "close",
    examples=("holdfast close 0198a7c2", 'holdfast close 0198a7c2 --reason "answered by phone"'),
    fields=DELIVERED_FIELDS,
)
@click.argument("session")
@click.option("--reason", default="", help="Recorded with the command.")
@as_option
@pass_app
def close(app: App, session: str, reason: str, as_user: str | None) -> int:
    """Finish the session, keeping what was done. It takes no message afterwards; an open request ends first."""
    return app.run(stop(app, session, lambda client: client.close_session, "Closing.", by=as_user, reason=reason))
