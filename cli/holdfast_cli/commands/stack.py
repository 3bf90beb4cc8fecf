"""`up`, `down`, `status`: the stack on this machine."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.exits import Exit
from holdfast_cli.output import cell, table

if TYPE_CHECKING:
    from holdfast_workers.embedded import Embedded
    from holdfast_workers.stack.runtime import Runtime
    from holdfast_workers.stack.status import StackStatus

UP_FIELDS = {
    "home": "directory that holds the stack's state",
    "temporal": "Temporal's address, host:port",
    "namespace": "Temporal's namespace",
    "ui": "address of Temporal's web UI",
    "model": "base address of the scripted model; null where a real model is used",
    "started": "false where it was running already",
}
STATUS_FIELDS = {
    "home": "directory that holds the stack's state",
    "state": "stopped, starting, ready, stopping or lost (the supervisor was killed)",
    "supervisor_pid": "process that runs the stack; null unless it runs",
    "temporal": "Temporal's address, host:port",
    "namespace": "Temporal's namespace",
    "ui": "address of Temporal's web UI",
    "postgres": "PostgreSQL's address, host:port",
    "services": "base address by name, such as `model`",
    "processes": "name, pid, running, started_at, restarts and log of each process",
}


@command(
    "up",
    traced=False,
    examples=(
        "holdfast up",
        "holdfast up --detach",
        "holdfast up --data ./state --port 7300",
        "holdfast up --scenarios ./scenarios",
    ),
    fields=UP_FIELDS,
)
@click.option("-d", "--detach", is_flag=True, help="Return when everything is ready, and leave it running.")
@click.option("--data", type=click.Path(path_type=Path), help="The same as --home: where the state is kept.")
@click.option("--port", type=click.IntRange(1, 65535), help="Temporal's port; the default is 7233 or a free one.")
@click.option("--workers", type=click.IntRange(0, 64), default=1, show_default=True, help="Worker processes.")
@click.option(
    "--scenarios",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="More scenarios for the scripted model: a YAML file, or a directory of them.",
)
@click.option("--temporal-on-path", is_flag=True, help="Run the `temporal` of your PATH, not the packaged one.")
@pass_app
def up(
    app: App,
    detach: bool,
    data: Path | None,
    port: int | None,
    workers: int,
    scenarios: tuple[Path, ...],
    temporal_on_path: bool,
) -> int:
    """Run Temporal with its UI, PostgreSQL, migrations and workers on this machine, on loopback only.

    Without a model key a scripted model plays scenarios. Everything is kept, and running it again continues all
    sessions. Ctrl-C stops it cleanly; where it runs already, this says so and does nothing.
    """
    from holdfast_workers.embedded import Embedded
    from holdfast_workers.stack.temporal_server import binary_on_path

    if data:
        app.flags.home = str(data)
    settings = app.settings
    wanted = Embedded(
        home=settings.home,
        config=settings.config,
        task_queue=settings.task_queue,
        model=settings.model,
        scenarios=tuple(path.resolve() for path in scenarios),
        workers=workers,
        temporal_port=port,
        temporal_binary=binary_on_path() if temporal_on_path else None,
    )
    check_config(wanted)
    if detach:
        return up_detached(app, wanted, foreground_argv(app, sys.argv))
    return up_here(app, wanted)


def check_config(wanted: Embedded) -> None:
    """A mistake in holdfast.toml is told here and now, not in a worker's log."""
    from holdfast_workers.config_file import load_config

    load_config(wanted.config)


def foreground_argv(app: App, argv: list[str]) -> list[str]:
    """This very command line again, in the foreground."""
    rest = [word for word in argv[1:] if word not in ("--detach", "-d", "--json", "-q", "--quiet")]
    return [sys.executable, "-m", "holdfast_cli", "--home", str(app.settings.home), *rest]


def up_detached(app: App, wanted: Embedded, argv: list[str]) -> int:
    from holdfast_workers.stack.detached import start_detached

    detached = start_detached(wanted.home, argv)
    tell_ready(app, wanted, detached.runtime, started=detached.started)
    return Exit.DONE


def up_here(app: App, wanted: Embedded) -> int:
    from holdfast_workers.stack.errors import AlreadyRunning
    from holdfast_workers.stack.runtime import read_runtime
    from holdfast_workers.stack.supervisor import Supervisor

    supervisor = Supervisor(wanted.plan(os.environ))
    try:
        asyncio.run(supervisor.run(lambda runtime: tell_ready(app, wanted, runtime, started=True)))
    except AlreadyRunning as error:
        if runtime := read_runtime(wanted.home):
            tell_ready(app, wanted, runtime, started=False)
        else:
            app.out.say(str(error))
        return Exit.DONE
    app.out.say("Stopped; the next `holdfast up` continues every session.")
    return Exit.DONE


def tell_ready(app: App, wanted: Embedded, runtime: Runtime, *, started: bool) -> None:
    its = runtime.addresses
    model = "scripted (no model key is set): it plays scenarios" if its.model else "Claude"
    text = "\n".join(
        [
            "Holdfast is up." if started else "Holdfast is up already.",
            f"  sessions  {its.ui}/namespaces/{its.namespace}/workflows",
            f"  temporal  {its.temporal}, namespace {its.namespace}",
            f"  model     {model}",
            f"  state     {wanted.home}",
            'Try `holdfast run "hello"`; `holdfast down` stops everything.',
        ]
    )
    fields = {
        "home": str(wanted.home),
        "temporal": its.temporal,
        "namespace": its.namespace,
        "ui": its.ui,
        "model": its.model,
        "started": started,
    }
    app.out.one(fields, text)
    sys.stdout.flush()


@command(
    "down",
    examples=("holdfast down", "holdfast down --json"),
    fields={
        "home": "directory of the stack",
        "was_running": "whether a stack ran",
        "leftovers": "names of processes a killed supervisor had left behind",
    },
)
@click.option("--data", type=click.Path(path_type=Path), help="The same as --home.")
@pass_app
def down(app: App, data: Path | None) -> int:
    """Stop the stack, in whatever state it is, and wait until nothing of it runs. Nothing is lost."""
    from holdfast_workers.stack.leftovers import stop_running

    if data:
        app.flags.home = str(data)
    home = app.settings.home
    stopped = stop_running(home)
    text = "Stopped." if stopped.was_running else "Nothing was running."
    if stopped.leftovers:
        text += f" Stopped what a killed stack left behind: {', '.join(stopped.leftovers)}."
    app.out.one({"home": str(home), **asdict(stopped)}, text)
    return Exit.DONE


@command("status", examples=("holdfast status", "holdfast status --json"), fields=STATUS_FIELDS)
@click.option("--data", type=click.Path(path_type=Path), help="The same as --home.")
@pass_app
def status(app: App, data: Path | None) -> int:
    """Show whether the stack runs, its addresses and its processes. Exit code 1 unless it is ready."""
    from holdfast_workers.stack.status import status as read_status

    if data:
        app.flags.home = str(data)
    found = read_status(app.settings.home)
    app.out.one(found.model_dump(mode="json"), status_text(found), quiet=found.state)
    return Exit.DONE if found.state == "ready" else Exit.FAILED


def status_text(found: StackStatus) -> str:
    lines = [f"{found.state}  {found.home}"]
    if found.state == "stopped":
        lines.append("`holdfast up` starts it.")
    if found.state == "lost":
        lines.append("Its supervisor was killed; `holdfast up` recovers it, `holdfast down` stops the rest.")
    if found.temporal:
        lines += [
            f"  ui        {found.ui}",
            f"  temporal  {found.temporal}, namespace {found.namespace}",
            f"  postgres  {found.postgres}",
            *(f"  {name:<8}  {url}" for name, url in found.services.items()),
        ]
    if found.processes:
        rows = [
            [
                one.name,
                str(one.pid),
                "yes" if one.running else "no",
                str(one.restarts),
                cell(one.started_at),
                str(one.log),
            ]
            for one in found.processes
        ]
        lines += ["", table(rows, ["process", "pid", "running", "restarts", "started", "log"])]
    return "\n".join(lines)
