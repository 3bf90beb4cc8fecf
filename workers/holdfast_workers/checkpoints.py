"""Checkpoints at an interval, and the keys that sign and verify them, as the settings name them.

Every worker tries; the ledger lets one through at a time, and none before the interval is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast_ledger.checkpointing import make_checkpoint
from holdfast_ledger.database import Database
from holdfast_ledger.errors import BadKey, LedgerError
from holdfast_ledger.signing import SigningKey, TrustedKeys, new_key
from holdfast_workers.settings import CHECKPOINT_KEY_FILE

if TYPE_CHECKING:
    from holdfast_workers.settings import Settings

_log = logging.getLogger("holdfast.workers.checkpoints")


def signing_key(settings: Settings) -> SigningKey | None:
    """The key this process signs with; None where it has none. Raises `BadKey`."""
    return SigningKey.of_pem(pem(settings.checkpoint_key)) if settings.checkpoint_key else None


def trusted_keys(settings: Settings, *more: str) -> TrustedKeys:
    """What checkpoints may be signed with: the settings' keys and `more`, files or PEM. Raises `BadKey`."""
    named = (settings.checkpoint_key, settings.checkpoint_public_keys, *more)
    return TrustedKeys.of_pem(*(pem(each) for each in named if each))


def pem(named: str) -> str:
    """The text of a PEM file, or the PEM itself. Raises `BadKey`."""
    if named.lstrip().startswith("-----BEGIN"):
        return named
    try:
        return Path(named).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadKey(f"Cannot read the key file `{named}`: {error}.") from error


def own_checkpoint_key(home: Path) -> Path:
    """The key of the embedded stack in `home`, made when it is first asked for."""
    from holdfast_workers.stack.home import write_private

    file = home / CHECKPOINT_KEY_FILE
    if not file.exists():
        write_private(file, new_key())
    return file


@asynccontextmanager
async def checkpoints_kept(database: Database, settings: Settings) -> AsyncIterator[None]:
    """Make checkpoints while the block runs, where this process has a key. Raises `BadKey`."""
    key = signing_key(settings)
    if key is None:
        _log.warning("no checkpoints are made here: HOLDFAST_CHECKPOINT_KEY names no key")
        yield
        return
    task = asyncio.create_task(_keep(database, key, settings.checkpoint_interval), name="holdfast-checkpoints")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _keep(database: Database, key: SigningKey, interval: timedelta) -> None:
    while True:
        await asyncio.sleep(interval.total_seconds() / 2)
        try:
            made = await make_checkpoint(database, key, wait=False, interval=interval)
        except LedgerError as error:
            _log.warning("no checkpoint was made", extra={"reason": str(error)})
            continue
        if made:
            # Whoever collects logs has a copy outside the database.
            _log.info(
                "checkpoint", extra={"number": made.number, "hash": made.hash.hex(), "sessions": made.advances}
            )
