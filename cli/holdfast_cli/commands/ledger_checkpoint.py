"""`ledger checkpoint`: sign where all chains stand, and hand the log of it to whoever keeps it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.exits import Exit, Failure

if TYPE_CHECKING:
    from holdfast_ledger.signing import SigningKey

NO_KEY = (
    "No key for checkpoints is known: set HOLDFAST_CHECKPOINT_KEY to an Ed25519 private key "
    "(`openssl genpkey -algorithm ed25519 -out checkpoint-key.pem`), or start the stack with `holdfast up`."
)


@command(
    "checkpoint",
    examples=(
        "holdfast ledger checkpoint",
        "holdfast ledger checkpoint --export checkpoints.jsonl",
        "holdfast ledger checkpoint --public-key > checkpoint-public.pem",
    ),
    fields={
        "number": "the newest checkpoint",
        "hash": "over what it says and the checkpoint before",
        "made": "whether this command made it; else nothing had happened since",
        "sessions": "sessions that went on since the one before; null where it was not made now",
    },
)
@click.option(
    "--export",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Then write the whole log there; - is stdout.",
)
@click.option("--public-key", is_flag=True, help="Only print the key that auditors verify with, as PEM.")
@pass_app
def checkpoint(app: App, export: Path | None, public_key: bool) -> int:
    """Sign where the chains of all sessions stand, over the checkpoint before. Workers do it at an interval, too.

    A copy that is kept where nobody of this database can change it shows later that a session was dropped, a chain
    written anew, or the database put back: `holdfast ledger verify --since FILE`.
    """
    key = known_key(app)
    if public_key:
        click.echo(key.public_pem, nl=False)
        return Exit.DONE
    fields, lines = app.run(make(app, key))
    if export == Path("-"):
        click.echo("\n".join(lines))
        return Exit.DONE
    if export:
        export.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    made = f"over {fields['sessions']} sessions that went on"
    said = made if fields["made"] else "made before; nothing has happened since"
    quiet = f"{fields['number']} {fields['hash']}"
    app.out.one(fields, f"Checkpoint {quiet}, {said}.", quiet=quiet)
    return Exit.DONE


def known_key(app: App) -> SigningKey:
    from holdfast_workers.checkpoints import signing_key

    if (key := signing_key(app.settings)) is None:
        raise Failure(NO_KEY, Exit.USAGE)
    return key


async def make(app: App, key: SigningKey) -> tuple[dict[str, Any], list[str]]:
    """What is told of the newest checkpoint, and the log's lines."""
    from holdfast_ledger.checkpointing import last_checkpoint, make_checkpoint
    from holdfast_ledger.export import export_checkpoints

    async with app.ledger() as opened:
        made = await make_checkpoint(opened.database, key, wait=True)
        if (last := await last_checkpoint(opened.database)) is None:
            raise Failure("Nothing is recorded yet, so there is nothing to sign.")
        lines = [line async for line in export_checkpoints(opened.database)]
    number, digest = last
    sessions = made.advances if made else None
    return {"number": number, "hash": digest.hex(), "made": made is not None, "sessions": sessions}, lines
