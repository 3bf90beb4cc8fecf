"""`saga start | abort | sweep`: sagas that code defines, and the search for those whose workflow died."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from holdfast_cli.app import App
from holdfast_cli.asking import as_option, principal_of, read_message, user
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.delivery import DELIVERED_FIELDS, tell
from holdfast_cli.exits import Exit, Failure

if TYPE_CHECKING:
    from holdfast.saga_contracts import SagaResult, SweepResult
    from holdfast_workers.client import Delivered
    from holdfast_workers.saga_client import StartedSaga

HELD = ("HELD", "STUCK", "FORWARD_PENDING")


@command(
    "start",
    examples=(
        """holdfast saga start travel.rebook --args '{"booking_id": "TRV-1042", ...}'""",
        "holdfast saga start files.apply_changes --args @changes.json --id change-7 --wait",
    ),
    fields={
        "saga_id": "its id, also its workflow's",
        "fresh": "false: the same start was made before",
        "opened": "false: no worker answered yet; it begins when one does",
        "outcome": "with --wait: COMMITTED, ABORTED, HELD, STUCK or FORWARD_PENDING",
        "result": "with --wait: what it returned",
        "reason": "with --wait: why it ended so",
        "undone": "with --wait: steps that were undone",
        "standing": "with --wait: steps that still stand",
    },
)
@click.argument("name")
@click.option("--args", "given", default="{}", help="Its input as JSON; `-` or `@file` read it from there.")
@click.option("--id", "saga_id", metavar="ID", help="Name it; starting it again is the same one.")
@click.option("--version", help="Of the saga; the newest that the worker has where not given.")
@click.option("--wait", is_flag=True, help="Wait for its end, and end with a code that says how.")
@as_option
@click.option("--on-behalf-of", metavar="NAME", help="For whom it acts.")
@click.option("--tenant", metavar="NAME", help="To which tenant it belongs.")
@pass_app
def start(
    app: App,
    name: str,
    given: str,
    saga_id: str | None,
    version: str | None,
    wait: bool,
    as_user: str | None,
    on_behalf_of: str | None,
    tenant: str | None,
) -> int:
    """Start a saga that code defines; prints its id. `sagas = [...]` in holdfast.toml names those of yours.

    With --wait: 0 when it committed, 1 when it was undone, 6 when a person must help it on.
    """
    args = arguments(given)
    principal = principal_of(as_user, on_behalf_of, tenant, (), ())

    async def begin() -> tuple[StartedSaga, bool, SagaResult | None]:
        async with app.client() as client:
            started = await client.start_saga(name, args, saga_id=saga_id, version=version, principal=principal)
            if wait:
                return started, True, await client.saga_result(started.saga_id)
            return started, await client.saga_opened(started.saga_id), None

    started, opened, ended = app.run(begin())
    record: dict[str, Any] = {"saga_id": started.saga_id, "fresh": started.fresh, "opened": opened}
    if ended is None:
        also = "" if opened else "\nNo worker answers now; it begins when one does."
        app.out.one(record, started.saga_id + also, quiet=started.saga_id)
        return Exit.DONE
    record |= ended.model_dump(mode="json") | {
        name: getattr(ended, name) for name in ("undone", "standing", "reason")
    }
    app.out.one(record, told(started.saga_id, ended), quiet=str(ended.outcome))
    return Exit.DONE if ended.outcome == "COMMITTED" else Exit.HELD if ended.outcome in HELD else Exit.FAILED


def arguments(given: str) -> dict[str, Any]:
    """The saga's input. Raises `Failure` where it is no JSON object."""
    try:
        read = json.loads(read_message(given))
    except json.JSONDecodeError as error:
        raise Failure(
            f"--args is no JSON: {error.msg} (line {error.lineno}, column {error.colno}).", Exit.USAGE
        ) from None
    if not isinstance(read, dict):
        raise Failure(
            f'--args must be a JSON object, like {{"name": "value"}}; got {type(read).__name__}.', Exit.USAGE
        )
    return read


def told(saga_id: str, ended: SagaResult) -> str:
    lines = [f"{saga_id}: {ended.outcome}" + (f" ({ended.reason})" if ended.reason else "")]
    lines += [f"undone: {', '.join(ended.undone)}"] if ended.undone else []
    lines += (
        [f"still stands: {', '.join(ended.standing)}"] if ended.standing and ended.outcome != "COMMITTED" else []
    )
    lines += [json.dumps(ended.result, indent=2)] if ended.result is not None else []
    return "\n".join(lines)


@command(
    "abort",
    examples=('holdfast saga abort trip-7 --reason "the customer cancelled"',),
    fields=DELIVERED_FIELDS,
)
@click.argument("saga_id", metavar="SAGA")
@click.option("--reason", default="", help="Recorded with the command.")
@as_option
@pass_app
def abort(app: App, saga_id: str, reason: str, as_user: str | None) -> int:
    """Stop a saga that runs and undo what it did. Past its pivot it is refused: it can only go forward then.

    A session's request is aborted by `holdfast abort SESSION`.
    """

    async def stop() -> tuple[str, Delivered]:
        async with app.client() as client:
            found = await client.ledger.reader.saga_id(saga_id)
            row = await client.ledger.sagas.row(found)
            if row.name is None:
                raise Failure(
                    f"{found} is what a request of a session did: `holdfast abort {row.session_id}` stops the "
                    f"request that runs, `holdfast saga resolve {found}` helps on one that is HELD or STUCK.",
                    Exit.USAGE,
                )
            return found, await client.abort_saga(found, by=as_user or user(), reason=reason)

    found, delivered = app.run(stop())
    tell(app, found, delivered, "Aborting; what it did is undone.")
    return Exit.DONE


@command(
    "sweep",
    examples=("holdfast saga sweep", "holdfast saga sweep --force --json"),
    fields={
        "scanned": "unfinished sagas of this task queue, and of no workflow that Temporal knows",
        "started": "those whose workflow died: unwound, or gone on with past their pivot",
        "held": "those left to a person: Temporal does not know their workflow, or it ended and left them",
        "ended": "sessions whose workflow died, and that have an end in the ledger now",
        "alarm": "why nothing was started; empty where the sweep was not stopped",
    },
)
@click.option("--force", is_flag=True, help="Go on although so many lost their workflow; look first why.")
@pass_app
def sweep(app: App, force: bool) -> int:
    """Look now for sagas whose workflow was terminated, timed out or failed, and have them unwound.

    Sessions whose workflow died so get their end in the ledger, and what they asked expires. Workers do the same
    every minute. More orphans than max(5, 1 %) stop a sweep: that many at once is a wrong namespace, or a Temporal
    that lost its data, before it is a loss.
    """

    async def look() -> SweepResult:
        async with app.client() as client:
            return await client.sweep(force=force)

    found = app.run(look())
    text = found.alarm or f"{found.scanned} unfinished, {len(found.started)} taken up again, {len(found.held)} held"
    if found.ended:
        text += f"; {len(found.ended)} dead session{'s' * (len(found.ended) != 1)} ended"
    names = ("scanned", "started", "held", "ended", "alarm")
    app.out.one({name: getattr(found, name) for name in names}, text, quiet="\n".join(found.started))
    return Exit.FAILED if found.alarm else Exit.DONE
