"""`worker start`: one worker process, in the foreground."""

from __future__ import annotations

import os
import sys

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import Group, command, pass_app
from holdfast_cli.exits import Exit


@click.group("worker", cls=Group)
def worker() -> None:
    """Run a worker."""


@command(
    "start",
    traced=False,
    examples=(
        "holdfast worker start",
        "HOLDFAST_DSN=postgresql://app@db/holdfast TEMPORAL_ADDRESS=temporal:7233 holdfast worker start",
        "holdfast worker start --health-port 8080",
    ),
)
@click.option(
    "--health-port",
    type=click.IntRange(1, 65535),
    help="Serve GET /healthz there: 200 while the worker polls, 503 otherwise.",
)
@pass_app
def start(app: App, health_port: int | None) -> int:
    """Run sessions until SIGTERM or Ctrl-C; then finish the calls that run and leave.

    Any number of workers may run, on any number of machines. A worker refuses to start when the database has
    another schema version, or belongs to another Temporal namespace.
    """
    import asyncio

    from holdfast_workers.telemetry.logs import LogSettings, configure_logging
    from holdfast_workers.worker import run

    configure_logging(LogSettings.from_env(os.environ, terminal=sys.stderr.isatty()))
    asyncio.run(run(app.settings, health_port=health_port))
    return Exit.DONE


worker.add_command(start)
