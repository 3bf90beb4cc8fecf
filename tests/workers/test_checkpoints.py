"""Workers make checkpoints by themselves, one at a time, with a key that stays where it is."""

from __future__ import annotations

import logging
import stat
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from holdfast_ledger import operations
from holdfast_ledger.checkpointing import last_checkpoint, read_log
from holdfast_ledger.errors import BadKey
from holdfast_ledger.signing import SigningKey, new_key
from holdfast_ledger.store import Ledger
from holdfast_ledger.verify import verify_checkpoints
from holdfast_workers.checkpoints import checkpoints_kept, own_checkpoint_key, signing_key, trusted_keys
from holdfast_workers.settings import Settings
from tests.waiting import until

SOON = timedelta(milliseconds=50)


def settings_of(home: Path, **changes: object) -> Settings:
    return Settings.model_validate({"home": home, "checkpoint_interval": SOON, **changes})


async def test_workers_make_checkpoints_where_something_happened(ledger: Ledger, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, checkpoint_key=new_key())
    await operations.disable(ledger.database, "refund", by="ana", reason="broken")
    async with AsyncExitStack() as workers:
        for _ in range(3):
            await workers.enter_async_context(checkpoints_kept(ledger.database, settings))
        await until(lambda: last_checkpoint(ledger.database), "a checkpoint")
        await operations.enable(ledger.database, "refund", by="ana", reason="fixed")

        async def second() -> bool:
            last = await last_checkpoint(ledger.database)
            return last is not None and last[0] == 2

        await until(second, "a second checkpoint")

    verdict = await verify_checkpoints(ledger.database, trusted_keys(settings))
    assert (verdict.ok, verdict.entries) == (True, 2)
    assert [len(advances) async for _, advances in read_log(ledger.database)] == [1, 1]


async def test_without_a_key_none_is_made_and_that_is_said(
    ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "holdfast.workers.checkpoints"):
        async with checkpoints_kept(ledger.database, settings_of(tmp_path)):
            pass
    assert "HOLDFAST_CHECKPOINT_KEY" in caplog.text


async def test_a_worker_with_a_key_that_is_none_does_not_start(ledger: Ledger, tmp_path: Path) -> None:
    for named in (str(tmp_path / "nowhere.pem"), "-----BEGIN PUBLIC KEY-----"):
        with pytest.raises(BadKey):
            async with checkpoints_kept(ledger.database, settings_of(tmp_path, checkpoint_key=named)):
                pass


async def test_the_private_key_is_neither_shown_nor_stored(
    ledger: Ledger, owner: asyncpg.Connection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pem = new_key()
    settings = settings_of(tmp_path, checkpoint_key=pem)
    secret = pem.splitlines()[1]
    await operations.disable(ledger.database, "refund", by="ana", reason="broken")
    with caplog.at_level(logging.DEBUG):
        async with checkpoints_kept(ledger.database, settings):
            await until(lambda: last_checkpoint(ledger.database), "a checkpoint")
    assert secret not in repr(settings) + caplog.text
    row = await owner.fetchrow("SELECT * FROM holdfast.checkpoint")
    assert secret not in str(row)


def test_the_stacks_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    file = own_checkpoint_key(tmp_path)
    text = file.read_text()

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert own_checkpoint_key(tmp_path).read_text() == text
    SigningKey.of_pem(text)


def test_a_key_is_a_file_or_its_text_and_older_public_keys_stay_trusted(tmp_path: Path) -> None:
    older, newer = new_key(), new_key()
    (tmp_path / "newer.pem").write_text(newer)
    (tmp_path / "older.pem").write_text(SigningKey.of_pem(older).public_pem)
    settings = settings_of(
        tmp_path,
        checkpoint_key=str(tmp_path / "newer.pem"),
        checkpoint_public_keys=str(tmp_path / "older.pem"),
    )

    key = signing_key(settings)
    assert key is not None
    assert key.key_id == SigningKey.of_pem(newer).key_id
    trusted = trusted_keys(settings)
    for pem in (older, newer):
        signer = SigningKey.of_pem(pem)
        assert trusted.problem(signer.key_id, b"said", signer.sign(b"said")) is None
        assert trusted.problem(signer.key_id, b"other", signer.sign(b"said")) is not None
