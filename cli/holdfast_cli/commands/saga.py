"""`saga list`: what each request did as one, and whether it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import Group, command, pass_app
from holdfast_cli.exits import Exit
from holdfast_cli.finding import find_session, reader_of

if TYPE_CHECKING:
    from holdfast_ledger.views import Saga

STATES = ("OPEN", "COMMITTING", "UNWINDING", "COMMITTED", "ABORTED", "HELD", "STUCK", "FORWARD_PENDING")

FIELDS = {
    "id": "its id",
    "session_id": "its session",
    "request": "number of the request that opened it",
    "state": "OPEN, COMMITTING, UNWINDING, COMMITTED, ABORTED, HELD, STUCK or FORWARD_PENDING",
    "epoch": "raised when it is unwound: older attempts are refused",
    "reason": "why it is where it is",
    "opened_at": "when it began",
    "closed_at": "when it ended; null while it stands open",
    "standing": "effects above tier read that are done",
    "unknown": "effects nobody knows the outcome of",
    "undoable": "effects that are done and can be undone",
}


@click.group("saga", cls=Group)
def saga() -> None:
    """List what each request did as one."""


@command(
    "list",
    examples=("holdfast saga list --session 0198a7c2", "holdfast saga list --state HELD --state STUCK --json"),
    fields=FIELDS,
)
@click.option("--session", metavar="SESSION", help="Only this session's.")
@click.option(
    "--state", "states", type=click.Choice(STATES, case_sensitive=False), multiple=True, help="Only these."
)
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@pass_app
def list_sagas(app: App, session: str | None, states: tuple[str, ...], limit: int) -> int:
    """List sagas, oldest first. One that is HELD or STUCK needs a person."""
    from holdfast.states import SagaState

    async def read() -> list[Saga]:
        async with app.ledger() as ledger:
            return await reader_of(ledger).sagas(
                session_id=await find_session(ledger, session) if session else None,
                states=[SagaState(state) for state in states] or None,
                limit=limit,
            )

    rows = [{name: getattr(found, name) for name in FIELDS} for found in app.run(read())]
    columns = {
        "id": "saga",
        "state": "state",
        "standing": "standing",
        "unknown": "unknown",
        "undoable": "undoable",
        "opened_at": "opened",
        "reason": "reason",
    }
    app.out.rows(rows, columns, empty="No sagas.", key="id")
    return Exit.DONE


saga.add_command(list_sagas)
