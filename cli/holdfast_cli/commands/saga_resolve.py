"""`saga resolve`: a person says how a saga goes on that cannot by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast_cli.app import App
from holdfast_cli.asking import as_option, user
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.commands.saga_start import arguments
from holdfast_cli.exits import Exit, Failure

if TYPE_CHECKING:
    from holdfast_ledger.saga_records import Moved, Resolving, SagaResolution, SagaRow, SagaStep
    from holdfast_workers.client import Holdfast

WHOLE = ("retry", "keep", "unwind")
STEP = ("edit", "mark_done", "waive")


@command(
    "resolve",
    examples=(
        'holdfast saga resolve trip-7 --retry --reason "the hotel answers again"',
        """holdfast saga resolve trip-7 --edit seat --args '{"hold_id": "HLD-7"}' --reason "as the desk has it\"""",
        'holdfast saga resolve trip-7 --mark-done seat --reason "released by phone"',
        'holdfast saga resolve 0198a7c2 --keep --reason "the customer wants it so"',
    ),
    fields={
        "saga_id": "the saga",
        "state": "where it stands now: UNWINDING while it goes on by itself",
        "resolution": "id of what was recorded",
    },
)
@click.argument("saga_id", metavar="SAGA")
@click.option("--retry", is_flag=True, help="Try again what failed: its undos, or past its pivot its steps.")
@click.option("--unwind", is_flag=True, help="Undo what can be undone; what never can be may stand.")
@click.option("--keep", is_flag=True, help="Keep all that stands; the saga ends COMMITTED.")
@click.option("--edit", metavar="STEP", help="Give this step's undo other arguments (--args), and try it again.")
@click.option("--mark-done", metavar="STEP", help="This step was undone by hand.")
@click.option("--waive", metavar="STEP", help="This step may stand.")
@click.option("--args", "given", metavar="JSON", help="With --edit; `-` or `@file` read it from there.")
@click.option("--reason", required=True, help="Why; recorded in the ledger with your name.")
@as_option
@pass_app
def resolve(
    app: App,
    saga_id: str,
    retry: bool,
    unwind: bool,
    keep: bool,
    edit: str | None,
    mark_done: str | None,
    waive: str | None,
    given: str | None,
    reason: str,
    as_user: str | None,
) -> int:
    """Help a saga on that is HELD, STUCK or FORWARD_PENDING: `holdfast saga show` says what may be said of it.

    An effect whose outcome is unknown is settled by `holdfast effect resolve`; the saga goes on by itself then.
    """
    flags = {"retry": retry, "unwind": unwind, "keep": keep, "edit": edit, "mark_done": mark_done, "waive": waive}
    chosen = [what for what, value in flags.items() if value]
    if len(chosen) != 1:
        names = ", ".join(f"--{what.replace('_', '-')}" for what in flags)
        raise Failure(f"Say one of {names}.", Exit.USAGE)
    what = chosen[0]
    if (what == "edit") != (given is not None):
        raise Failure("--edit STEP and --args JSON belong together.", Exit.USAGE)
    args = arguments(given) if given is not None else None
    step = str(flags[what]) if what in STEP else None

    async def say() -> tuple[SagaResolution, Moved]:
        async with app.client() as client:
            found = await client.ledger.reader.saga_id(saga_id)
            row = await client.ledger.sagas.row(found)
            steps = await client.ledger.sagas.steps(row.session_id, found)
            resolution = await resolution_of(app, client, row, steps, what, step, args, as_user or user(), reason)
            return resolution, await client.resolve_saga(resolution)

    resolution, moved = app.run(say())
    record = {"saga_id": resolution.saga_id, "state": moved.state, "resolution": resolution.id}
    goes_on = ", and goes on by itself" if moved.state in ("UNWINDING", "OPEN", "FORWARD_PENDING") else ""
    app.out.one(record, f"Recorded; {resolution.saga_id} is {moved.state}{goes_on}.", quiet=str(moved.state))
    return Exit.DONE


async def resolution_of(
    app: App,
    client: Holdfast,
    row: SagaRow,
    steps: tuple[SagaStep, ...],
    what: str,
    step: str | None,
    args: dict[str, object] | None,
    by: str,
    reason: str,
) -> SagaResolution:
    from holdfast_ledger.saga_records import SagaResolution
    from holdfast_workers.sending import new_id

    chosen = step_named(row, steps, step) if step else None
    resolution = SagaResolution(
        id=new_id(),
        session_id=row.session_id,
        saga_id=row.saga_id,
        what=as_resolving(what),
        by=by,
        reason=reason,
        effect_id=chosen.effect_id if chosen else None,
        waive=await never_undone(client, row, steps) if what == "unwind" else (),
    )
    if chosen is None or args is None:
        return resolution
    return await with_undo(app, client, row, chosen, args, resolution)


async def never_undone(client: Holdfast, row: SagaRow, steps: tuple[SagaStep, ...]) -> tuple[str, ...]:
    """Steps that stand whatever is undone: nothing that undoes them was declared. One whose undo could not be made
    is not among them."""
    catalogue = await client.ledger.catalogue(row.catalogue_digest or "")
    final = {card.name for card in catalogue.tools if card.undo is None}
    return tuple(step.effect_id for step in steps if step.tool in final)


def as_resolving(what: str) -> Resolving:
    return what  # type: ignore[return-value]  # the names of the flags are these very words


def step_named(row: SagaRow, steps: tuple[SagaStep, ...], name: str) -> SagaStep:
    """By number, name or effect id. Raises `Failure`, naming the steps there are."""
    found = [
        step for step in steps if name in (step.call, f"{step.call} {step.tool}") or step.effect_id.startswith(name)
    ]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"`{step.call}` ({step.tool})" for step in steps) or "none"
    raise Failure(f"Saga {row.saga_id} has no one step `{name}`; its steps: {known}.", Exit.MISSING)


async def with_undo(
    app: App, client: Holdfast, row: SagaRow, step: SagaStep, args: dict[str, object], resolution: SagaResolution
) -> SagaResolution:
    """The undo with a person's arguments, checked against its schema. Raises `Failure` where they do not fit."""
    from dataclasses import replace

    from pydantic import ValidationError

    from holdfast.errors import DeclarationError
    from holdfast.ids import canonical
    from holdfast_cli.commands.tool import book_of

    catalogue = await client.ledger.catalogue(row.catalogue_digest or "")
    forward = catalogue.card(step.tool)
    name = step.undo_tool or (forward.undo if forward else None)
    card = next((each for each in catalogue.compensations if each.name == name), None)
    if card is None:
        raise Failure(f"Step {step.call} {step.tool} declares no undo; say --mark-done or --waive.", Exit.USAGE)
    try:
        checked = book_of(app).tool(card).arguments.model_validate(args)
    except DeclarationError as error:
        raise Failure(
            f"The arguments cannot be checked: the code of `{card.name}` is not here ({error}). Run this beside "
            "the workers' holdfast.toml.",
            Exit.USAGE,
        ) from error
    except ValidationError as error:
        wrong = "; ".join(f"`{'.'.join(map(str, each['loc']))}`: {each['msg']}" for each in error.errors())
        raise Failure(f"These arguments do not fit `{card.name}`: {wrong}.", Exit.USAGE) from error
    return replace(
        resolution,
        undo_tool=card.name,
        undo_version=card.version,
        undo_args=canonical(checked.model_dump(mode="json")),
    )
