"""`saga list | show`: what each request, and each code-defined saga, did as one. The other verbs have modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import Entry, LazyGroup, command, pass_app
from holdfast_cli.exits import Exit
from holdfast_cli.finding import find_session, note_reading, reader_of
from holdfast_cli.output import cell, shortened, table

if TYPE_CHECKING:
    from holdfast_ledger.saga_records import SagaRow, SagaStep
    from holdfast_ledger.views import Saga

STATES = ("OPEN", "COMMITTING", "UNWINDING", "COMMITTED", "ABORTED", "HELD", "STUCK", "FORWARD_PENDING")

FIELDS = {
    "id": "its id",
    "session_id": "its session; of a code-defined one, its own id",
    "request": "number of the request that opened it; 0 of a code-defined one",
    "name": "of a code-defined one",
    "version": "of a code-defined one",
    "state": "OPEN, COMMITTING, UNWINDING, COMMITTED, ABORTED, HELD, STUCK or FORWARD_PENDING",
    "epoch": "raised when it is unwound: older attempts are refused",
    "reason": "why it is where it is",
    "opened_at": "when it began",
    "closed_at": "when it ended; null while it stands open",
    "standing": "effects above tier read that are done and not undone",
    "undone": "those that were undone",
    "unknown": "effects nobody knows the outcome of",
    "undoable": "effects that are done and can be undone",
}
STEP_FIELDS = (
    "effect_id",
    "call",
    "tool",
    "tier",
    "state",
    "order",
    "undo_tool",
    "undo_by",
    "undo_state",
    "undo_said",
    "undo_attempts",
    "undone_at",
    "waived",
)
SHOW_FIELDS = {
    "id": "its id",
    "session_id": "its session; of a code-defined one, its own id",
    "state": "where it stands",
    "reason": "why",
    "past_pivot": "whether it can only go forward",
    "steps": f"those above tier read, newest first: {', '.join(STEP_FIELDS)}",
    "next": "commands that a person may give now",
}

HERE = "holdfast_cli.commands.saga"
VERBS = {
    "list": Entry(f"{HERE}:list_sagas", "List sagas, oldest first."),
    "show": Entry(f"{HERE}:show", "Show a saga's steps, what undid them, and what can be done now."),
    "start": Entry(f"{HERE}_start:start", "Start a saga that code defines."),
    "abort": Entry(f"{HERE}_start:abort", "Stop a code-defined saga and undo what it did."),
    "resolve": Entry(f"{HERE}_resolve:resolve", "Say how a saga goes on that is HELD, STUCK or FORWARD_PENDING."),
    "sweep": Entry(f"{HERE}_start:sweep", "Look now for sagas whose workflow died."),
}


@click.group("saga", cls=LazyGroup, entries=VERBS)
def saga() -> None:
    """List, start, stop and resolve what is done as one."""


@command(
    "list",
    examples=("holdfast saga list --session 0198a7c2", "holdfast saga list --state HELD --state STUCK --json"),
    fields=FIELDS,
)
@click.option("--session", metavar="SESSION", help="Only this session's.")
@click.option(
    "--state", "states", type=click.Choice(STATES, case_sensitive=False), multiple=True, help="Only these."
)
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@pass_app
def list_sagas(app: App, session: str | None, states: tuple[str, ...], limit: int) -> int:
    """List sagas, oldest first. One that is HELD, STUCK or FORWARD_PENDING needs a person."""
    from holdfast.states import SagaState

    async def read() -> list[Saga]:
        async with app.ledger() as ledger:
            return await reader_of(ledger).sagas(
                session_id=await find_session(ledger, session) if session else None,
                states=[SagaState(state) for state in states] or None,
                limit=limit,
            )

    rows = [{name: getattr(found, name) for name in FIELDS} for found in app.run(read())]
    columns = {
        "id": "saga",
        "state": "state",
        "standing": "standing",
        "undone": "undone",
        "unknown": "unknown",
        "opened_at": "opened",
        "reason": "reason",
    }
    app.out.rows(rows, columns, empty="No sagas.", key="id")
    return Exit.DONE


@command(
    "show",
    examples=(
        "holdfast saga show 0198a7c2-1f3b-7c44-9d11-6f1c2a9e5b01/request-1",
        "holdfast saga show trip-7 --json",
    ),
    fields=SHOW_FIELDS,
)
@click.argument("saga_id", metavar="SAGA")
@pass_app
def show(app: App, saga_id: str) -> int:
    """Show a saga: its steps, newest first, what undid each, and what a person can do about it now."""

    async def read() -> tuple[SagaRow, tuple[SagaStep, ...]]:
        async with app.ledger() as ledger:
            found = await reader_of(ledger).saga_id(saga_id)
            row = await ledger.sagas.row(found)
            await note_reading(ledger, [row.session_id], "saga show")
            return row, await ledger.sagas.steps(row.session_id, found)

    row, steps = app.run(read())
    record: dict[str, Any] = {
        "id": row.saga_id,
        "session_id": row.session_id,
        "state": row.state,
        "reason": row.reason,
        "past_pivot": row.past_pivot,
        "steps": [{name: getattr(step, name) for name in STEP_FIELDS} for step in steps],
        "next": options_of(row, steps),
    }
    app.out.one(record, rendered(row, steps), quiet=str(row.state))
    return Exit.DONE


def rendered(row: SagaRow, steps: tuple[SagaStep, ...]) -> str:
    what = f"{row.name} {row.version}" if row.name else f"of session {row.session_id}"
    lines = [
        f"saga {row.saga_id} ({what})",
        f"{row.state}: {shortened(row.reason)}" if row.reason else str(row.state),
    ]
    if steps:
        cells = [[step.call, step.tool, step.state, *undo_cells(step)] for step in steps]
        lines += ["", table(cells, ["step", "tool", "state", "undo", "undone"])]
    if options := options_of(row, steps):
        lines += ["", "What you can do:", *(f"  {option}" for option in options)]
    return "\n".join(lines)


def undo_cells(step: SagaStep) -> list[str]:
    if step.waived:
        return [cell(step.undo_tool), step.waived.replace("_", " ")]
    said = f": {shortened(step.undo_said, 80)}" if step.undo_said and step.undo_state != "DONE" else ""
    return [cell(step.undo_tool), f"{step.undo_state}{said}" if step.undo_state else "-"]


def options_of(row: SagaRow, steps: tuple[SagaStep, ...]) -> list[str]:
    """Commands that help this saga on, for one that waits for a person: none that would be refused."""
    if row.state not in ("HELD", "STUCK", "FORWARD_PENDING"):
        return []
    resolve = f'holdfast saga resolve {row.saga_id} --reason "..."'
    unknown = [step for step in steps if step.state == "UNKNOWN" and not step.waived and step.undo_state is None]
    options = [f"holdfast effect resolve {step.effect_id[:12]} ..." for step in unknown]
    if row.past_pivot:
        options += [f"{resolve} --retry"]
    elif row.state == "HELD" and any(is_final(step) for step in steps):
        options += [f"{resolve} --unwind"]
    else:
        options += [f"{resolve} --retry"] if row.goal or row.name else []
        options += [] if row.goal else [f"{resolve} --unwind"]
    for step in steps:
        if needs_a_person(row, step):
            options += [f"{resolve} --{what} {step.call}" for what in ("edit", "mark-done", "waive")]
    if not unknown and not any(step.undo_state in ("DONE", "UNKNOWN") for step in steps):
        options += [f"{resolve} --keep"]
    return options


def needs_a_person(row: SagaRow, step: SagaStep) -> bool:
    """Its undo cannot be relied on, or could not be made."""
    if step.waived:
        return False
    return step.undo_state in ("FAILED", "UNKNOWN") or (row.state == "STUCK" and is_final(step))


def is_final(step: SagaStep) -> bool:
    """It stands, and nothing undoes it."""
    return step.state == "DONE" and step.undo_tool is None and not step.waived


__all__ = ["FIELDS", "STATES", "saga"]
