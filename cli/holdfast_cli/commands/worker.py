"""`worker start | check`: worker processes in the foreground; and whether this build may be deployed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from holdfast_cli.app import App
from holdfast_cli.asking import as_option, user
from holdfast_cli.commanding import Group, command, pass_app
from holdfast_cli.exits import Exit, Failure
from holdfast_cli.finding import reader_of

if TYPE_CHECKING:
    from holdfast_workers.deploys import Missing


@click.group("worker", cls=Group)
def worker() -> None:
    """Run a worker, or ask whether it may run."""


@command(
    "start",
    traced=False,
    examples=(
        "holdfast worker start",
        "HOLDFAST_DSN=postgresql://app@db/holdfast TEMPORAL_ADDRESS=temporal:7233 holdfast worker start",
        "holdfast worker start --health-port 8080 --processes auto",
        "holdfast worker start --serve sessions --serve model",
    ),
)
@click.option(
    "--serve",
    "serves",
    type=click.Choice(["sessions", "model", "tools"]),
    multiple=True,
    help="Only this, and what else is named so; `[queues]` of holdfast.toml names queues for model and tools.",
)
@click.option(
    "--processes",
    metavar="N|auto",
    help="So many processes of this worker; auto: one for each two cores.",
)
@click.option(
    "--health-port",
    type=click.IntRange(1, 65535),
    help="Serve GET /healthz there: 200 while the worker serves, with all its processes; 503 otherwise.",
)
@pass_app
def start(app: App, serves: tuple[str, ...], processes: str | None, health_port: int | None) -> int:
    """Run sessions until SIGTERM or Ctrl-C; then finish the calls that run and leave.

    A model call may take minutes. A second signal hands what runs over to other workers: a model call is then asked
    and paid again, and a write that was sent is still waited for.

    Any number of workers may run, on any number of machines. A worker refuses to start when the database has
    another schema version, belongs to another Temporal namespace, or holds open sagas whose code is not here.
    """
    import asyncio

    from holdfast_workers.telemetry.logs import LogSettings, configure_logging
    from holdfast_workers.worker import WorkerSettings, run

    configure_logging(LogSettings.from_env(os.environ, terminal=sys.stderr.isatty()))
    chosen = WorkerSettings.from_env(os.environ, serves=serves or None, processes=processes)
    if chosen.process_count == 1:
        asyncio.run(run(app.settings, health_port=health_port, worker_settings=chosen))
        return Exit.DONE
    from holdfast_workers.parent import run_processes

    one = (sys.executable, "-m", "holdfast_cli", *sys.argv[1:], "--processes", "1")
    asyncio.run(run_processes(one, chosen.process_count, health_port=health_port))
    return Exit.DONE


@command(
    "check",
    examples=(
        "holdfast worker check",
        'holdfast worker check --waive trip-7 --reason "undone by hand tomorrow; the fix must go out"',
    ),
    fields={
        "saga_id": "an open saga",
        "session_id": "its session",
        "state": "where it stands",
        "code": "what it needs",
        "why": "what is here instead",
    },
)
@click.option("--waive", "waived", metavar="SAGA", help="Workers may serve without the code of this one.")
@click.option("--reason", help="With --waive: why; recorded in the ledger with your name.")
@as_option
@pass_app
def check(app: App, waived: str | None, reason: str | None, as_user: str | None) -> int:
    """Name the open sagas whose undos or bodies this build no longer has. Run it before a deploy.

    0 when a worker of this build may serve, 1 when it would refuse to start. A saga that was waived waits for a
    build that has its code, or for a person.
    """
    if (waived is None) != (reason is None):
        raise Failure("--waive SAGA and --reason TEXT belong together.", Exit.USAGE)

    async def look() -> tuple[Missing, ...]:
        from holdfast_cli.commands.tool import book_of
        from holdfast_ledger.deploys import waive_build
        from holdfast_workers.deploys import missing_code
        from holdfast_workers.sagas import load_sagas

        book = book_of(app)
        async with app.ledger() as ledger:
            if waived is not None:
                saga_id = await reader_of(ledger).saga_id(waived)
                row = await ledger.sagas.row(saga_id)
                await waive_build(
                    ledger.database, ledger.vault, row.session_id, saga_id, by=as_user or user(), reason=str(reason)
                )
            sagas = load_sagas(book.config, book)
            return await missing_code(ledger, book, sagas, app.settings.task_queue)

    missing = app.run(look())
    rows = [
        {name: getattr(one, name) for name in ("saga_id", "session_id", "state", "code", "why")} for one in missing
    ]
    columns = {"saga_id": "saga", "state": "state", "code": "needs", "why": "but"}
    app.out.rows(rows, columns, empty="This build has the code of every open saga.", key="saga_id")
    return Exit.FAILED if missing else Exit.DONE


worker.add_command(start)
worker.add_command(check)
