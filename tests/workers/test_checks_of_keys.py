"""What `holdfast doctor` says of keys: those that are missing here, and checkpoints that nobody makes."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast_ledger import operations
from holdfast_ledger.checkpointing import make_checkpoint
from holdfast_ledger.records import Registration
from holdfast_ledger.signing import new_key
from holdfast_ledger.store import Ledger
from holdfast_workers.checkpoints import signing_key
from holdfast_workers.checks import check_keys
from holdfast_workers.keys import KeySettings
from holdfast_workers.settings import Settings
from tests.conftest import Database

KEYS = KeySettings(keys=f"2026:{base64.b64encode(b'k' * 32).decode()}")
NEWER = KeySettings(keys=f"2027:{base64.b64encode(b'n' * 32).decode()}")


@pytest.fixture
async def sealed(database: Database) -> Ledger:
    """A database with one session that is sealed; the connection is closed."""
    ledger = await Ledger.connect(database.dsn, keys=KEYS.open())
    await ledger.register(Registration(session_id="trip-1", agent="default", start_digest="0", requested_by="ana"))
    await ledger.close()
    return ledger


@pytest.mark.parametrize(
    ("keys", "result", "found"),
    [
        (KEYS, "ok", "2026"),
        (NEWER, "warning", "sessions are sealed under `2026` (1 sessions), not here"),
        (KeySettings(), "warning", "`2026` (1 sessions), not here"),
    ],
    ids=["it is here", "only a newer one is", "none is"],
)
async def test_a_master_key_that_sessions_need_and_is_not_here_is_named(
    sealed: Ledger, database: Database, tmp_path: Path, keys: KeySettings, result: str, found: str
) -> None:
    master, _ = await check_keys(Settings(home=tmp_path, keys=keys), database.dsn)

    assert (master.name, master.result) == ("master keys", result)
    assert found in master.found


async def test_no_key_and_no_checkpoint_for_long_are_warnings(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    async def said(settings: Settings) -> tuple[str, str]:
        _, found = await check_keys(settings, database.dsn)
        return found.result, found.found

    keyed = Settings(home=tmp_path, checkpoint_key=new_key())
    overdue = keyed.model_copy(update={"checkpoint_interval": timedelta(0)})
    await operations.disable(ledger.database, "refund", by="ana", reason="broken")

    assert await said(Settings(home=tmp_path)) == ("warning", "no key that signs is set here; there is none yet")
    assert (await said(keyed))[0] == "ok"
    result, found = await said(overdue)
    assert (result, "1 sessions went on since" in found) == ("warning", True)

    key = signing_key(keyed)
    assert key is not None
    await make_checkpoint(ledger.database, key, wait=True)
    assert await said(overdue) == ("ok", f"the last one is number 1; key {key.key_id}")  # nothing happened since
