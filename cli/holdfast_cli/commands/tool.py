"""`tool list | show | check | disable | enable`: tools as a worker would load them, and the stop button."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import Group, command, pass_app
from holdfast_cli.commands.switch import disable, enable, stop_of, stopped_tools
from holdfast_cli.exits import Exit, Failure
from holdfast_cli.output import span

if TYPE_CHECKING:
    from holdfast.catalogue import ToolCard
    from holdfast_activities.tools.book import ToolBook

FIELDS = {
    "name": "as agents and the model call it",
    "version": "recorded with every call",
    "source": "`builtin:NAME` or `module:attribute`",
    "tier": "read, reversible, irreversible or privileged",
    "recovery": "what a lost attempt permits: retry, idempotent, probe, operator or transactional",
    "undo": "the tool that undoes it; null where there is none",
    "never_undone": "why it cannot be undone; null where it can",
    "timeout": "seconds one attempt may take",
    "attempts": "attempts before the call fails",
    "result_cap": "characters of a result that the model sees",
    "owner": "who answers for it",
    "service": "the service it reaches",
    "runbook": "where to look when it fails",
    "cost_usd": "dollars per call; null where unknown",
    "description": "what the model reads",
    "input_schema": "JSON schema of its arguments",
}


@click.group("tool", cls=Group)
def tool() -> None:
    """List, show and check tools; stop them."""


def book_of(app: App) -> ToolBook:
    from holdfast_activities.tools.book import ToolBook
    from holdfast_workers.config_file import load_config

    path = app.settings.config
    return ToolBook(load_config(path), path.parent if path else Path())


def record(card: ToolCard) -> dict[str, Any]:
    return {name: getattr(card, name) for name in FIELDS}


@command(
    "list",
    examples=("holdfast tool list", "holdfast tool list --json"),
    fields={**FIELDS, "stopped": "why nobody may run it now; null where it may run, or no Postgres can be asked"},
)
@pass_app
def list_tools(app: App) -> int:
    """List the built-in tools and those of holdfast.toml.

    With a Postgres at hand it says which are disabled. One that cannot be loaded is named on stderr, and the exit
    code is 1.
    """
    from holdfast.errors import DeclarationError

    book = book_of(app)
    stops = stopped_tools(app)
    rows, broken = [], 0
    for name in book.names():
        try:
            card = book.find(name)
            stopped = stop_of(stops, name, writes=card.tier != "read", service=card.service)
            rows.append({**record(card), "stopped": stopped})
        except DeclarationError as error:
            broken += 1
            click.echo(f"{name}: {error}", err=True)
    columns = {"name": "name", "tier": "tier", "recovery": "recovery", "undo": "undo", "source": "source"}
    if any(row["stopped"] for row in rows):
        columns["stopped"] = "stopped"
    for unlisted in sorted(set(stops or ()) - {row["name"] for row in rows}):
        found = stop_of(stops, unlisted, writes=False)
        app.out.say(f"{'every tool that writes' if unlisted == '*' else unlisted}: {found}")
    app.out.rows(rows, columns, empty="No tools.", key="name")
    return Exit.FAILED if broken else Exit.DONE


@command("show", examples=("holdfast tool show read_file", "holdfast tool show write_file --json"), fields=FIELDS)
@click.argument("name")
@pass_app
def show(app: App, name: str) -> int:
    """Show one tool: its risk, its limits, and what the model is told. NAME may be `module:attribute`."""
    from holdfast.errors import DeclarationError

    book = book_of(app)
    if name not in book.names() and ":" not in name:
        raise Failure(missing(name, book), Exit.MISSING)
    try:
        card = book.find(name)
    except DeclarationError as error:
        raise Failure(str(error)) from error
    app.out.one(record(card), text_of(card), quiet=card.name)
    return Exit.DONE


def missing(name: str, book: ToolBook) -> str:
    return f"There is no tool `{name}`; `holdfast tool list` names those there are: {', '.join(book.names())}."


def text_of(card: ToolCard) -> str:
    facts = {
        "tier": card.tier.value,
        "recovery": card.recovery.value,
        "undo": card.undo or (f"never: {card.never_undone}" if card.never_undone else None),
        "limits": f"{span(card.timeout)} an attempt, {card.attempts} attempts, {card.result_cap} characters shown",
        "source": f"{card.source}, version {card.version}",
        "service": card.service,
        "owner": card.owner,
        "runbook": card.runbook,
        "cost": f"${card.cost_usd} a call" if card.cost_usd is not None else None,
    }
    lines = [card.name, *(f"  {name:<8}  {value}" for name, value in facts.items() if value)]
    schema = json.dumps(card.input_schema, indent=2)
    return "\n".join([*lines, "", card.description, "", schema])


@command(
    "check",
    examples=(
        "holdfast tool check",
        "holdfast tool check holdfast_tools:word_counts",
        "holdfast tool check --json",
        'holdfast tool check acme.tools:refund --crash --args \'{"order": "TEST-{run}"}\' --count ./refunds.sh',
    ),
    fields={
        "ok": "whether a worker would load all of it; with --crash, whether its class held",
        "checked": "what was looked at",
        "problems": "what a worker would refuse, or what contradicts the declared class, one line each",
        "warnings": "what works, and will give a model or a person trouble, one line each",
        "verdict": "with --crash: what the declared class really gives",
        "runs": "with --crash: point, crashed, attempts, sent, keys, effects, state, seconds and effect_id of each",
    },
)
@click.argument("name", required=False)
@click.option("--crash", is_flag=True, help="Call it for real, and lose its worker at each fault point.")
@click.option("--args", "arguments", metavar="JSON", help="With --crash: its arguments, or `@FILE`.")
@click.option("--count", metavar="COMMAND", help="With --crash: prints how many such effects stand at the service.")
@click.option("--count-url", metavar="URL", help="The same: an address that answers the number.")
@pass_app
def check(
    app: App, name: str | None, crash: bool, arguments: str | None, count: str | None, count_url: str | None
) -> int:
    """Load a tool as a worker would, and say what is wrong with it. Without NAME: all that holdfast.toml mentions.

    NAME is a tool's name or `module:attribute`. Exit code 1 when a worker would refuse something, 3 for an unknown
    name; a warning leaves it at 0.

    With --crash it REALLY CALLS THE TOOL'S SERVICE, six times or more: use a test account. The tool runs once
    undisturbed, and once for each fault point, where its worker is killed; another worker then does what the
    declared recovery class says. Requests through `ToolContext.http` are counted; whether the service did the work
    once, only --count can tell. In --args, `{run}` becomes a number from 1 to 6 and `{check}` a random word. It
    needs Postgres, and leaves sessions of the agent `tool-check` in the ledger. Exit code 1 when the class did not
    hold.
    """
    from holdfast_activities.tools import findings

    book = book_of(app)
    if name and name not in book.names() and ":" not in name:
        raise Failure(missing(name, book), Exit.MISSING)
    if crash:
        return crash_of(app, book, name, arguments, count, count_url)
    if arguments or count or count_url:
        raise Failure("--args, --count and --count-url go with --crash.", Exit.USAGE)
    found = {name: findings.check(book, name)} if name else findings.check_all(book)
    lines: dict[str, list[str]] = {"error": [], "warning": []}
    for where, each in ((where, each) for where, several in found.items() for each in several):
        lines[each.level].append(f"{where}: {each.text}")
    said = [*(f"error    {line}" for line in lines["error"]), *(f"warning  {line}" for line in lines["warning"])]
    text = "\n".join(said) or f"{', '.join(found)}: nothing is wrong."
    result = {
        "ok": not lines["error"],
        "checked": list(found),
        "problems": lines["error"],
        "warnings": lines["warning"],
        "verdict": None,
        "runs": None,
    }
    app.out.one(result, text)
    return Exit.FAILED if lines["error"] else Exit.DONE


def crash_of(
    app: App, book: ToolBook, name: str | None, arguments: str | None, count: str | None, count_url: str | None
) -> int:
    from holdfast.errors import DeclarationError
    from holdfast_cli.commands.crash_check import crash_check

    if name is None:
        raise Failure("Name the tool that --crash is to check.", Exit.USAGE)
    try:
        card = book.find(name)
    except DeclarationError as error:
        raise Failure(str(error)) from error
    return crash_check(app, book, card, arguments=arguments or "{}", count=count, count_url=count_url)


for each in (list_tools, show, check, disable, enable):
    tool.add_command(each)
