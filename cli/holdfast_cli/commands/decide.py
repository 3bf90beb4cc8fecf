"""`approve`, `deny`: a person's decision on one call, bound to its exact arguments."""

from __future__ import annotations

import click

from holdfast_cli.app import App
from holdfast_cli.asking import as_option, user
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.delivery import DELIVERED_FIELDS, tell
from holdfast_cli.exits import Exit
from holdfast_cli.finding import find_approval, find_session

FIELDS = {**DELIVERED_FIELDS, "call": "the call that was decided", "digest": "names its exact arguments"}


async def decide(
    app: App, session: str, call: str | None, *, digest: str | None, approve: bool, by: str | None, reason: str
) -> int:
    async with app.client() as client:
        session_id = await find_session(client.ledger, session)
        if call is None or digest is None:
            found = await find_approval(client.ledger, session_id, call)
            call, digest = found.call, digest or found.digest
        delivered = await client.decide(
            session_id, call, approve=approve, digest=digest, by=by or user(), reason=reason
        )
    tell(app, session_id, delivered, f"{'Approved' if approve else 'Denied'} {call}", call=call, digest=digest)
    return Exit.DONE


@command(
    "approve",
    examples=(
        "holdfast approve 0198a7c2",
        "holdfast approve 0198a7c2 3.1",
        'holdfast approve 0198a7c2 3.1 --reason "checked the invoice"',
    ),
    fields=FIELDS,
)
@click.argument("session")
@click.argument("call", required=False)
@click.option("--reason", default="", help="Recorded with the decision.")
@click.option("--digest", metavar="HEX", help="Approve only these exact arguments; else those it has now.")
@as_option
@pass_app
def approve(app: App, session: str, call: str | None, reason: str, digest: str | None, as_user: str | None) -> int:
    """Allow a call that waits for a person: this call, with these arguments, once.

    CALL is TURN.INDEX, such as 3.1; it may be left out where only one call waits. `holdfast approval list` shows
    the arguments. An approval that comes after the time to decide is refused.
    """
    return app.run(decide(app, session, call, digest=digest, approve=True, by=as_user, reason=reason))


@command(
    "deny",
    examples=(
        'holdfast deny 0198a7c2 --reason "too expensive"',
        'holdfast deny 0198a7c2 3.1 --reason "ask the customer first"',
    ),
    fields=FIELDS,
)
@click.argument("session")
@click.argument("call", required=False)
@click.option("--reason", default="", help="Told to the model, so that it can do better.")
@click.option("--digest", metavar="HEX", help="Deny only these exact arguments; else those it has now.")
@as_option
@pass_app
def deny(app: App, session: str, call: str | None, reason: str, digest: str | None, as_user: str | None) -> int:
    """Refuse a call that waits for a person. The session goes on, and the model is told the reason.

    CALL is TURN.INDEX, such as 3.1; it may be left out where only one call waits.
    """
    return app.run(decide(app, session, call, digest=digest, approve=False, by=as_user, reason=reason))
