"""`ledger erase`: nobody reads a session's contents again, and what of them lives on elsewhere."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from holdfast_cli.app import App
from holdfast_cli.asking import as_option, user
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.exits import Exit
from holdfast_cli.finding import find_session

if TYPE_CHECKING:
    from holdfast_ledger.privacy import ErasedNow
    from holdfast_workers.leftovers import Leftover


@command(
    "erase",
    examples=('holdfast ledger erase 0198a7c2 --reason "request 4711 of the data subject"',),
    fields={
        "session_id": "the session",
        "fresh": "whether this command erased it; false: it was erased before",
        "at": "when",
        "by": "who",
        "reason": "why",
        "lives_on": "what exists elsewhere: where, what, and until when; null until: nobody here knows",
    },
)
@click.argument("session")
@click.option("--reason", required=True, help="Why; recorded in clear, for ever.")
@as_option
@pass_app
def erase(app: App, session: str, reason: str, as_user: str | None) -> int:
    """Destroy the key of a session's contents, and list where copies live on. It cannot be undone.

    The record itself stays and verifies: who did what when, counts, costs, digests. Refused while the session runs
    or a saga of it is open, and for a session that was stored in clear. No master key is needed.
    """
    by = as_user or user()
    session_id, erased, left = app.run(erase_and_list(app, session, by, reason))
    lines = [
        f"The contents of {session_id} were {'erased' if erased.fresh else 'already erased'} "
        f"on {erased.at:%Y-%m-%d %H:%M} UTC by {erased.by}: {erased.reason}",
        "What lives on elsewhere:",
        *(f"- {each.where}: {each.what}{until(each)}" for each in left),
    ]
    fields = {"session_id": session_id, **asdict(erased), "lives_on": [asdict(each) for each in left]}
    app.out.one(fields, "\n".join(lines), quiet=session_id)
    return Exit.DONE


def until(leftover: Leftover) -> str:
    return f"; until {leftover.until:%Y-%m-%d %H:%M} UTC" if leftover.until else ""


async def erase_and_list(
    app: App, session: str, by: str, reason: str
) -> tuple[str, ErasedNow, tuple[Leftover, ...]]:
    from holdfast_ledger import privacy
    from holdfast_workers.leftovers import leftovers
    from holdfast_workers.temporal import connect_temporal, silent_runtime

    async with app.ledger() as ledger:
        session_id = await find_session(ledger, session)
        erased = await privacy.erase(ledger.database, ledger.vault, session_id, by=by, reason=reason)
        runtime = silent_runtime()
        left = await leftovers(lambda: connect_temporal(app.settings.temporal, runtime=runtime), ledger, session_id)
    return session_id, erased, left
