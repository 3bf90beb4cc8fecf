"""`ledger rotate-key`: sessions' keys under the newest master key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast_cli.app import App
from holdfast_cli.asking import as_option, user
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.exits import Exit, Failure

if TYPE_CHECKING:
    from holdfast_ledger.privacy import Rotation


@command(
    "rotate-key",
    examples=("holdfast ledger rotate-key",),
    fields={
        "master_key": "id of the newest master key",
        "rewrapped": "sessions whose key this command wrapped anew",
        "left": "sessions that are still under another master key, by its id",
    },
)
@as_option
@pass_app
def rotate_key(app: App, as_user: str | None) -> int:
    """Wrap every session's key under the newest master key, the first one that is configured.

    Contents stay as they are, and sessions go on meanwhile. Afterwards no session needs the older master keys;
    destroy them once no backup does. It can be stopped and run again.
    """
    by = as_user or user()

    async def rotated() -> Rotation:
        from holdfast_ledger.privacy import rotate

        async with app.ledger() as ledger:
            return await rotate(ledger.database, ledger.vault, by=by)

    if not app.settings.keys.configured:
        raise Failure(
            "No master key is known: set HOLDFAST_MASTER_KEYS, HOLDFAST_MASTER_KEYS_FILE or HOLDFAST_KMS, "
            "the newest key first.",
            Exit.USAGE,
        )
    done = app.run(rotated())
    left = "".join(f" {number} are still under `{each}`; run it again." for each, number in done.left.items())
    text = f"{done.rewrapped} keys were wrapped under `{done.master_id}`.{left}"
    fields = {"master_key": done.master_id, "rewrapped": done.rewrapped, "left": dict(done.left)}
    app.out.one(fields, text, quiet=str(done.rewrapped))
    return Exit.DONE
