"""`tool disable | enable`: the stop button, and what it stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast_cli.app import App
from holdfast_cli.asking import as_option, user
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.exits import Exit, Failure
from holdfast_cli.output import cell, now, span

if TYPE_CHECKING:
    from holdfast_ledger.records import Switched
    from holdfast_ledger.views import RunningCall, StoppedTool

FIELDS = {
    "tool": "the tool; `*` is every tool that writes",
    "changed": "whether this command changed anything",
    "reason": "why it is, or was, disabled",
    "by": "who disabled it",
    "at": "when",
}


def named(name: str | None, all_writes: bool) -> str:
    """The switch that is meant. Raises `Failure`."""
    from holdfast_ledger.operations import ALL_WRITES

    if (name is None) != all_writes:
        raise Failure("Name one tool, or say --all-writes.", Exit.USAGE)
    return name or ALL_WRITES


@command(
    "disable",
    examples=(
        'holdfast tool disable refund --reason "refunds go out twice, incident 12"',
        'holdfast tool disable --all-writes --reason "the booking system is down"',
    ),
    fields={**FIELDS, "running": "calls that were under way: effect_id, session_id, call, tool, lease_until"},
)
@click.argument("name", required=False)
@click.option("--all-writes", is_flag=True, help="Every tool above tier read.")
@click.option("--reason", required=True, help="Why; recorded, and told to the model.")
@as_option
@pass_app
def disable(app: App, name: str | None, all_writes: bool, reason: str, as_user: str | None) -> int:
    """Let no worker run a tool any more, from this moment on, until it is enabled again.

    Calls that were under way finish, or go to doubt; they are listed. The model is told who disabled it and why.
    """
    tool, by = named(name, all_writes), as_user or user()

    async def press() -> tuple[Switched, list[RunningCall], bool]:
        from holdfast_ledger import operations

        async with app.ledger() as ledger:
            known = all_writes or await operations.ever_called(ledger.database, tool)
            switched = await operations.disable(ledger.database, tool, by=by, reason=reason)
            return switched, await operations.running(ledger.database, tool), known

    switched, running, known = app.run(press())
    if not known and not in_book(app, tool):
        app.out.say(f"No tool named `{tool}` was ever called, nor is one configured here: is the name right?")
    what = "Every tool that writes" if all_writes else f"`{tool}`"
    done = f"{what} is disabled" if switched.changed else f"{what} was disabled before, {why(switched)}"
    lines = [done, *(f"  still runs: {each.call} {each.tool} of session {each.session_id}" for each in running)]
    record = {"tool": tool, **fields_of(switched), "running": [each.model_dump() for each in running]}
    app.out.one(record, "\n".join(lines))
    return Exit.DONE


@command(
    "enable",
    examples=(
        'holdfast tool enable refund --reason "fixed in 4.2"',
        'holdfast tool enable --all-writes --reason "the booking system is back"',
    ),
    fields=FIELDS,
)
@click.argument("name", required=False)
@click.option("--all-writes", is_flag=True, help="What `disable --all-writes` stopped.")
@click.option("--reason", required=True, help="Why; recorded.")
@as_option
@pass_app
def enable(app: App, name: str | None, all_writes: bool, reason: str, as_user: str | None) -> int:
    """Let a disabled tool run again, or close its circuit breaker. Exit code 3 where it is neither.

    A breaker of a service is closed by the service's name."""
    tool, by = named(name, all_writes), as_user or user()

    async def release() -> Switched:
        from holdfast_ledger import operations

        async with app.ledger() as ledger:
            return await operations.enable(ledger.database, tool, by=by, reason=reason)

    switched = app.run(release())
    what = "--all-writes" if all_writes else f"`{tool}`"
    if not switched.changed:
        raise Failure(f"{what} is not disabled; `holdfast tool list` shows what is.", Exit.MISSING)
    was = f" It was disabled {why(switched)}." if switched.by else ""
    app.out.one({"tool": tool, **fields_of(switched)}, f"{what} may run again.{was}")
    return Exit.DONE


def fields_of(switched: Switched) -> dict[str, object]:
    return {"changed": switched.changed, "reason": switched.reason, "by": switched.by, "at": switched.at}


def why(switched: Switched) -> str:
    return f"by {cell(switched.by)} at {cell(switched.at)}: {cell(switched.reason)}"


def in_book(app: App, tool: str) -> bool:
    from holdfast.errors import HoldfastError
    from holdfast_cli.commands.tool import book_of

    try:
        book = book_of(app)
        return tool in book.names() or any(each.rpartition(":")[2] == tool for each in book.configured())
    except HoldfastError:
        return False


def stopped_tools(app: App) -> dict[str, StoppedTool] | None:
    """What is stopped, by name; None where no Postgres is known or it cannot be asked."""
    if app.settings.dsn is None:
        return None

    async def read() -> dict[str, StoppedTool]:
        from holdfast_ledger import operations

        async with app.ledger() as ledger:
            return {each.tool: each for each in await operations.stopped(ledger.database)}

    from holdfast_ledger.errors import LedgerError

    try:
        return app.run(read())
    except LedgerError as error:
        app.out.say(f"Whether a tool is disabled is not known: {error}")
        return None


def stop_of(
    stops: dict[str, StoppedTool] | None, name: str, *, writes: bool, service: str | None = None
) -> str | None:
    """Why nobody may run the tool now, in words."""
    from holdfast_ledger.operations import ALL_WRITES

    if not stops:
        return None
    for found in (stops.get(name), stops.get(ALL_WRITES) if writes else None, stops.get(service or name)):
        if found is not None and found.disabled_by is not None:
            return f"disabled by {found.disabled_by}: {found.reason}"
        if found is not None and found.open_until is not None:
            return f"left alone for {span(found.open_until - now())}: failed {found.failures} times in a row"
    return None
