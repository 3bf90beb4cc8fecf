"""`ledger archive`: sessions that ended long ago, moved to files that verify on their own."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast_cli.app import App
from holdfast_cli.asking import as_option, user
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.commands.db import owner_dsn
from holdfast_cli.commands.ledger_checkpoint import known_key
from holdfast_cli.exits import Exit, Failure
from holdfast_cli.output import now

if TYPE_CHECKING:
    from holdfast_ledger.archive import Archived, ArchiveReport
    from holdfast_ledger.signing import SigningKey


@command(
    "archive",
    examples=(
        "holdfast ledger archive --before 2026-01-01 --to /archive/holdfast",
        "HOLDFAST_MIGRATE_DSN=postgresql://owner@db/holdfast holdfast ledger archive --before 2026-01-01 --to .",
    ),
    fields={
        "archived": "sessions that are in files now: session_id, file, entries, sha256",
        "kept": "older sessions that stay: session_id, reason",
        "partitions": "partitions without any entry left, removed",
    },
)
@click.option("--before", required=True, type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="UTC.")
@click.option("--to", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where the files go.")
@as_option
@pass_app
def archive(app: App, before: datetime, to: Path, as_user: str | None) -> int:
    """Move sessions that ended before a date to files, one each, with their effects and transcripts.

    A checkpoint is made first, since a file carries those that vouch for it. The session's row and the end of its
    chain stay, and the archive is told in `@operations`. A session that has not ended, or has an open saga, stays.
    Needs HOLDFAST_MIGRATE_DSN: the app's login cannot remove anything.
    """
    moment = before.replace(tzinfo=UTC)
    if moment > now():
        raise Failure("--before must be in the past.", Exit.USAGE)
    key, owner = known_key(app), owner_dsn(app)
    to.mkdir(parents=True, exist_ok=True)
    report = app.run(work(app, key, owner, to, moment, as_user or user()))
    lines = [f"kept {each.session_id}: {each.reason}" for each in report.kept]
    said = f"{len(report.archived)} sessions are in {to} now"
    lines.append(f"{said}; {len(report.kept)} stay." if report.kept else f"{said}.")
    app.out.one(asdict(report), "\n".join(lines), quiet=str(len(report.archived)))
    return Exit.DONE


async def work(app: App, key: SigningKey, owner: str, to: Path, before: datetime, by: str) -> ArchiveReport:
    from holdfast_ledger.archive import archive as archive_sessions
    from holdfast_ledger.checkpointing import make_checkpoint
    from holdfast_ledger.database import Database

    def tell(one: Archived) -> None:
        app.out.say(f"archived {one.session_id}: {one.entries} entries in {one.file}")

    async with app.ledger() as ledger:
        await make_checkpoint(ledger.database, key, wait=True)
        pgbouncer = app.settings.pgbouncer
        connected = await Database.connect(owner, min_size=1, max_size=1, pgbouncer=pgbouncer)
        try:
            return await archive_sessions(ledger.database, connected, to, before=before, by=by, on_progress=tell)
        finally:
            await connected.close()
