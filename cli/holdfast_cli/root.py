"""The root command and the table of all commands."""

from __future__ import annotations

from typing import Any

import click

from holdfast_cli.commanding import Entry, LazyGroup, connection_options

DAILY, MANAGE, MACHINE = "Every day", "Look and manage", "The machine room"
WHERE = "holdfast_cli.commands"

COMMANDS = {
    "start": Entry(f"{WHERE}.talk:start", "Start a session and print its id.", DAILY),
    "run": Entry(f"{WHERE}.talk:run", "Start a session and follow it to its end.", DAILY),
    "send": Entry(f"{WHERE}.talk:send", "Send a session its next message.", DAILY),
    "attach": Entry(f"{WHERE}.talk:attach", "Follow a session live.", DAILY),
    "show": Entry(f"{WHERE}.show:show", "Show what happened in a session.", DAILY),
    "approve": Entry(f"{WHERE}.decide:approve", "Allow a call that waits for a person.", DAILY),
    "deny": Entry(f"{WHERE}.decide:deny", "Refuse a call that waits for a person.", DAILY),
    "interrupt": Entry(f"{WHERE}.stop:interrupt", "Stop the turn that runs; what was said is kept.", DAILY),
    "abort": Entry(f"{WHERE}.stop:abort", "Stop the request that runs; what it did is named.", DAILY),
    "close": Entry(f"{WHERE}.stop:close", "Finish a session, keeping what was done.", DAILY),
    "session": Entry(f"{WHERE}.session:session", "List and show sessions.", MANAGE),
    "approval": Entry(f"{WHERE}.approval:approval", "List what waits for a person.", MANAGE),
    "effect": Entry(f"{WHERE}.effect:effect", "List, show and resolve what reached outside.", MANAGE),
    "saga": Entry(f"{WHERE}.saga:saga", "List, start, stop and resolve what is done as one.", MANAGE),
    "tool": Entry(f"{WHERE}.tool:tool", "List, show and check tools; stop them.", MANAGE),
    "agent": Entry(f"{WHERE}.agent:agent", "List and show agents.", MANAGE),
    "ledger": Entry(f"{WHERE}.ledger:ledger", "Show, verify and export the record.", MANAGE),
    "cost": Entry(f"{WHERE}.cost:cost", "Sum up what it cost.", MANAGE),
    "db": Entry(f"{WHERE}.db:db", "Migrate and inspect the database.", MANAGE),
    "worker": Entry(f"{WHERE}.worker:worker", "Run a worker, or ask whether it may run.", MACHINE),
    "model": Entry(f"{WHERE}.model:model", "Serve the scripted model.", MACHINE),
    "up": Entry(f"{WHERE}.stack:up", "Run the whole stack on this machine.", MACHINE),
    "down": Entry(f"{WHERE}.stack:down", "Stop the stack.", MACHINE),
    "status": Entry(f"{WHERE}.stack:status", "Show the stack and its addresses.", MACHINE),
    "doctor": Entry(f"{WHERE}.doctor:doctor", "Check this machine and its servers.", MACHINE),
    "demo": Entry(f"{WHERE}.demo:demo", "Run a real job, with a worker killed in the middle.", MACHINE),
    "chaos": Entry(f"{WHERE}.chaos:chaos", "Run sessions while everything fails, and judge.", MACHINE),
    "init": Entry(f"{WHERE}.init:init", "Write a configuration, a tool and its test here.", MACHINE),
    "completion": Entry(f"{WHERE}.completion:completion", "Print shell completion.", MACHINE),
}


def show_version(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"holdfast {version('holdfast')}")
        context.exit()


cli = LazyGroup(
    "holdfast",
    entries=COMMANDS,
    help="Durable AI agent sessions on Temporal.\n\n"
    "A session survives the loss of any process. Its id may be shortened to any unique beginning.",
    examples=(
        "holdfast up --detach",
        'holdfast run "What is in this directory?"',
        "holdfast approval list",
        "holdfast show 0198a7c2",
    ),
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=show_version,
            help="Show the version.",
        ),
        *connection_options(hidden=False),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
