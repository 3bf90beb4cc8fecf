"""`demo`: one real job from its start to its proof, with a worker killed in the middle."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast_cli.app import App
from holdfast_cli.asking import user
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.deciding import decide_lines, signal_line
from holdfast_cli.exits import Exit
from holdfast_cli.following.events import Event
from holdfast_cli.following.views import Log, View, told, view_of
from holdfast_cli.output import money, table
from holdfast_cli.timeline import read_moments
from holdfast_cli.timeline import told as told_moments

if TYPE_CHECKING:
    from holdfast_workers.demo.desk import LogEntry
    from holdfast_workers.demo.evidence import Evidence
    from holdfast_workers.demo.judging import Check
    from holdfast_workers.demo.parts import Parts
    from holdfast_workers.stack.runtime import Runtime

SHOWN_WITHIN_S = 10.0
"""How long the view may take to show the end of a session that has ended."""

FIELDS = {
    "session_id": "the demo's session",
    "model": "the model that answered; `scripted` where it was not Claude",
    "status": "as the session ended",
    "turns": "model calls",
    "calls": "tool calls",
    "approvals": "approvals that came as a signal, from Temporal's history",
    "worker_kills": "workers killed while a tool ran, from the ledger's attempts",
    "effects": "done and duplicates from the services' own log, unknown from the ledger",
    "saga": "its outcome: COMMITTED, or ABORTED where all was undone, from the ledger",
    "ledger": "its entries, and whether the chain verified",
    "cost_usd": "its cost in dollars; null where a price is unknown",
    "ui_url": "this very run in Temporal's UI",
}


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How the job came out: what was found, and what kept it from its end, if anything."""

    evidence: Evidence
    timeline: list[str]
    stopped: Exception | None = None


@command(
    "demo",
    examples=(
        "holdfast demo",
        "holdfast demo --fail-payment",
        "holdfast demo --stop",
        "holdfast demo --json | tail -n 1",
    ),
    fields=FIELDS,
)
@click.option("--stop", is_flag=True, help="Stop the stack at the end, whoever started it.")
@click.option("--message", help="Ask the travel desk's agent for something else.")
@click.option(
    "--fail-payment", is_flag=True, help="Let the payment fail: what was done before is undone, and no worker dies."
)
@pass_app
def demo(app: App, stop: bool, message: str | None, fail_payment: bool) -> int:
    """Move a booking, refund the difference, tell the customer: live, with a worker killed while a tool runs.

    Starts the stack if none runs, and beside it a travel desk's services and a worker of the demo's own. Claude
    decides where a key is set, a scripted model otherwise. The refund waits for an approval, which comes as a
    signal. At the end everything is held against the services' own log, the ledger and Temporal's history; exit
    code 1 if anything does not hold, 5 if the session needs a person for something else.
    """
    progress = Progress()
    try:
        return play(app, Wish(message=message, fail_payment=fail_payment), progress)
    except KeyboardInterrupt:
        again = app.again(f"attach {progress.session_id}")
        app.out.say("\nInterrupted." + (f" The session goes on: `{again}`." if progress.session_id else ""))
        return Exit.INTERRUPTED
    finally:
        leave(app, stop=stop)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What was asked of the demo. `message`: None for its own."""

    message: str | None
    fail_payment: bool


@dataclass
class Progress:
    """How far the demo came."""

    session_id: str | None = None


def play(app: App, wish: Wish, progress: Progress) -> int:
    """Start what is missing, run the job, print what was found."""
    from holdfast_workers.demo.evidence import report
    from holdfast_workers.demo.judging import judge

    tell_who_decides(app)
    parts, beside = start(app)
    ending = app.run(perform(app, parts, beside, wish, progress))
    checks = judge(ending.evidence)
    if app.out.machine:
        app.out.event(report(ending.evidence).model_dump())
    elif not app.out.quiet:
        click.echo(findings(ending.evidence, checks, ending.timeline))
    return judged(app, ending, checks)


def tell_who_decides(app: App) -> None:
    """Always the first line."""
    from holdfast_workers.config_file import load_config
    from holdfast_workers.demo.parts import AGENT, agents_file

    if app.settings.model.configured:
        line = f"Claude decides: {load_config(agents_file()).agents[AGENT].model}."
    else:
        line = "The scripted model decides, not Claude: no model key is set (ANTHROPIC_API_KEY)."
    click.echo(line, err=app.out.machine)
    sys.stdout.flush()


def start(app: App) -> tuple[Parts, Runtime]:
    """The stack, as `holdfast up --detach` starts it, and what the demo runs beside it; `app` then leads there."""
    from holdfast_workers.demo.parts import Parts, client_settings
    from holdfast_workers.settings import Settings
    from holdfast_workers.stack.detached import start_detached
    from holdfast_workers.stack.runtime import read_runtime

    home = app.settings.home
    if read_runtime(home) is None:
        app.out.say(f"Starting the stack in {home} ...")
    config = ["--config", str(Path(app.flags.config).resolve())] if app.flags.config else []
    start_detached(home, [sys.executable, "-m", "holdfast_cli", "--home", str(home), *config, "up"])
    app.out.say("Starting the travel desk's services, and a worker of the demo's own ...")
    parts = Parts(home)
    beside = parts.start()
    app.settings = client_settings(Settings.load(os.environ, home=home), beside)
    return parts, beside


async def perform(app: App, parts: Parts, beside: Runtime, wish: Wish, progress: Progress) -> Ending:
    """Run the job while showing it, and gather the evidence, also of a job that did not come to its end."""
    from holdfast_cli.following.follow import Follower
    from holdfast_workers.demo.desk import Desk
    from holdfast_workers.demo.evidence import gather
    from holdfast_workers.demo.job import Job, NeedsPerson, TooSlow
    from holdfast_workers.demo.parts import DESK

    view = view_for(app)
    try:
        async with app.client() as client, Desk(beside.addresses.services[DESK]) as desk:
            job = await Job.start(
                client,
                desk,
                parts,
                wish.message,
                fail_payment=wish.fail_payment,
                by=user(),
                tell=lambda text: view.show(Event("note", progress.session_id or "", {"text": text})),
                paste=lambda session_id, call, digest: signal_line(app, session_id, call, digest),
            )
            progress.session_id = job.session_id
            follower = Follower(app, job.session_id, "end", view, None)
            watching = asyncio.create_task(follower.run(0))
            stopped: Exception | None = None
            try:
                await job.run()
                await asyncio.wait({watching}, timeout=SHOWN_WITHIN_S)
            except (NeedsPerson, TooSlow) as error:
                stopped = error
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            return Ending(
                evidence=await gather(job, app.settings),
                timeline=list(told_moments(await read_moments(job.reader, job.session_id))),
                stopped=stopped,
            )
    finally:
        view.close()


class Aside(Log):
    """All of it on stderr: stdout is for the report alone."""

    def show(self, event: Event) -> None:
        for line in told(event, self._commands):
            click.echo(line, err=True)


def view_for(app: App) -> View:
    """As `holdfast run` shows a session."""

    def commands(session_id: str, call: str) -> list[str]:
        return decide_lines(app, session_id, call)

    return Aside(commands) if app.flags.output == "json" else view_of(app.out, commands)


def findings(evidence: Evidence, checks: tuple[Check, ...], timeline: list[str]) -> str:
    """What the demo prints at its end, for people."""
    nobody_paid = " (scripted: nobody was paid)" if evidence.model == "scripted" else ""
    return "\n".join(
        [
            "",
            click.style("What happened", bold=True),
            *timeline,
            "",
            click.style("What the services wrote down", bold=True),
            services_table(evidence.log),
            "",
            click.style("What holds", bold=True),
            *(f"{'✓' if check.holds else '✗'} {check.claim} ({check.found})" for check in checks),
            "",
            f"cost  {money(evidence.session.usd)}{nobody_paid}",
            f"ui    {evidence.ui_url}",
        ]
    )


def services_table(log: tuple[LogEntry, ...]) -> str:
    counts = Counter((entry.kind, entry.outcome) for entry in log)
    kinds = dict.fromkeys(entry.kind for entry in log)
    outcomes = {"carried_out": "carried out", "replayed": "answered again, same key", "refused": "refused"}
    rows = [[kind, *(str(counts[kind, outcome]) for outcome in outcomes)] for kind in kinds]
    return table(rows, ["effect", *outcomes.values()])


def judged(app: App, ending: Ending, checks: tuple[Check, ...]) -> int:
    """Say what does not hold, if anything; returns the exit code."""
    from holdfast_workers.demo.job import NeedsPerson

    if ending.stopped:
        app.out.say(f"Error: {ending.stopped}")
    if isinstance(ending.stopped, NeedsPerson):
        asked = ending.stopped.approval
        app.out.say("\n".join(f"  {line}" for line in decide_lines(app, asked.session_id, asked.call)))
        return Exit.WAITING
    failed = [check for check in checks if not check.holds]
    for check in failed:
        app.out.say(f"Error: it does not hold that {check.claim}: {check.found}.")
    return Exit.FAILED if ending.stopped or failed else Exit.DONE


def leave(app: App, *, stop: bool) -> None:
    """Say how the stack is left; with `stop` stop it first."""
    from holdfast_workers.stack.leftovers import stop_running
    from holdfast_workers.stack.status import status

    home = app.settings.home
    if stop:
        stop_running(home)
        app.out.say("Stopped the stack.")
        return
    state = status(home).state
    more = "" if state == "stopped" else f" and stays up; `{app.again('down')}` stops it and all beside it"
    app.out.say(f"The stack is {state}{more}.")
