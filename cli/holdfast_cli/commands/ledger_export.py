"""`ledger export`: a session's record, to take away. Who took it is recorded first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import click

from holdfast_cli.app import App
from holdfast_cli.asking import as_option, user
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.exits import Exit, Failure
from holdfast_cli.finding import find_session


@command(
    "export",
    examples=(
        "holdfast ledger export 0198a7c2 > session.jsonl",
        "holdfast ledger export 0198a7c2 --file session.jsonl",
    ),
)
@click.argument("session")
@click.option("--file", type=click.Path(dir_okay=False, path_type=Path), help="Instead of stdout; must not exist.")
@as_option
@pass_app
def export(app: App, session: str, file: Path | None, as_user: str | None) -> int:
    """Write a session's record as JSON lines: a header, then one entry a line. It verifies without a database.

    Before the first line is written, who exports what is recorded in `@operations`. Encrypted contents stay so:
    the hash covers them as they are stored. `holdfast show` tells them to whoever has the master key.
    """
    by = as_user or user()
    if file is None:
        app.run(write_export(app, session, by, click.echo))
        return Exit.DONE
    try:
        with file.open("x", encoding="utf-8") as opened:
            app.run(write_export(app, session, by, lambda line: opened.write(f"{line}\n")))
    except FileExistsError:
        raise Failure(f"`{file}` exists already; nothing was written.", Exit.USAGE) from None
    app.out.say(f"Wrote {file}; `holdfast ledger verify --export {file}` verifies it anywhere.")
    return Exit.DONE


async def write_export(app: App, session: str, by: str, write: Callable[[str], object]) -> None:
    from holdfast_ledger.export import export_session
    from holdfast_ledger.operations import note_export

    async with app.ledger() as ledger:
        session_id = await find_session(ledger, session)
        await note_export(ledger.database, session_id, by=by)
        if erased := await ledger.reader.erased(session_id):
            app.out.say(f"The session's contents were {erased.notice}: {erased.reason}.")
        lines: AsyncIterator[str] = export_session(ledger.database, session_id)
        async for line in lines:
            write(line)
