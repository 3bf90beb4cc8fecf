"""`chaos`: many sessions in a storm of faults, judged by the services' own log."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.exits import Exit, Failure

if TYPE_CHECKING:
    from holdfast_workers.chaos.report import Report

FIELDS = {
    "seed": "what the faults, scripts and decisions were drawn from",
    "sessions": "sessions that were started",
    "kills": "workers killed, at random moments and at fault points",
    "faults": "how often each kind struck",
    "effects": "writes that the services carried out",
    "duplicates": "intents carried out more than once",
    "lost": "effects reported done that no service carried out",
    "unreported": "effects carried out that the ledger says were not",
    "unknown": "effects that were in doubt at some moment",
    "held_resolved": "of these, settled by reading the services' log",
    "stuck_sessions": "sessions that neither ended nor hold with a reason",
    "ledger_verified": "whether every session's chain verified",
    "sessions_completed": "sessions that completed",
    "sagas": "how sagas ended, the sessions that were given up, and what the services took back",
    "seconds": "how long it took",
    "broken": "the promises that did not hold",
    "artefacts": "where a failing run keeps histories, ledger exports and logs; else null",
}


@command(
    "chaos",
    traced=False,
    examples=(
        "holdfast chaos --sessions 20 --kills 8 --seed 7",
        "holdfast chaos --sessions 5 --kills 2 --faults kill,crash_at,desk --json",
    ),
    fields=FIELDS,
)
@click.option("--sessions", type=click.IntRange(1, 5000), default=20, show_default=True, help="Sessions to run.")
@click.option("--kills", type=click.IntRange(0, 1000), default=8, show_default=True, help="Workers to kill.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Chooses everything else.")
@click.option("--faults", metavar="LIST", help="Only these kinds, with commas between; `list` names them.")
@click.option("--workers", type=click.IntRange(1, 32), default=4, show_default=True, help="Worker processes.")
@click.option("--keep", is_flag=True, help="Keep the run's directory, also of a good run.")
@pass_app
def chaos(app: App, sessions: int, kills: int, seed: int, faults: str | None, workers: int, keep: bool) -> int:
    """Run sessions while everything fails, and hold them against the services' own log.

    It has a stack of its own in a new directory, and touches no other. Sessions read, and write through tools of
    every recovery class, while workers are killed, databases restarted and paused, answers lost and approvals
    repeated. What is left in doubt is looked up in the services' log and resolved as a person would. Exit code 1 if
    a promise broke; then the directory stays, and says how.
    """
    from holdfast_workers.chaos.faults import KINDS
    from holdfast_workers.chaos.run import Plan, run

    if faults == "list":
        click.echo("\n".join(f"{kind:<24} {what}" for kind, what in KINDS.items()))
        return Exit.DONE
    kinds = tuple(dict.fromkeys(part.strip() for part in faults.split(","))) if faults else tuple(KINDS)
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise click.UsageError(f"There is no fault `{unknown[0]}`; `--faults list` names them all.")
    home = Path(tempfile.mkdtemp(prefix="holdfast-chaos-")).resolve()
    plan = Plan(home=home, sessions=sessions, kills=kills, seed=seed, faults=kinds, workers=workers)
    broken = True
    logging.basicConfig(filename=home / "chaos.log")  # what drivers have to say of servers that are away
    try:
        report = asyncio.run(run(plan, app.out.say))
        broken = bool(report.broken)
    finally:
        if not (broken or keep):
            shutil.rmtree(home, ignore_errors=True)
    show(app, report)
    if broken:
        raise Failure("A promise broke: " + "; ".join(report.broken) + f". See {report.artefacts}.")
    return Exit.DONE


def show(app: App, report: Report) -> None:
    """A table for people, and one line of JSON for everybody."""
    if not (app.out.machine or app.out.quiet):
        from rich.console import Console
        from rich.table import Table

        table = Table("", "", title=f"chaos, seed {report.seed}", show_header=False)
        for name, meaning in FIELDS.items():
            value = getattr(report, name)
            if name in ("faults", "sagas"):
                value = "\n".join(f"{kind} {times}" for kind, times in value.items())
            if name not in ("seed", "broken", "artefacts"):
                table.add_row(name.replace("_", " "), str(value), meaning)
        Console(file=sys.stdout).print(table)
    app.out.event(report.model_dump())
