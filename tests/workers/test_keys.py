"""Where master keys come from, and that nothing starts with half of them."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from temporalio.client import Client

from holdfast_ledger.master_keys import BadMasterKey
from holdfast_workers.keys import KeysError, KeySettings
from holdfast_workers.settings import Settings, SettingsError
from holdfast_workers.work import open_work

KEY = base64.b64encode(b"k" * 32).decode()
KMS = """
class Kms:
    newest = "kms/1"

    async def wrap(self, key, context):
        return key[::-1]

    async def unwrap(self, wrapped, master_id, context):
        return wrapped[::-1]


class Half:
    newest = "kms/1"
"""


def test_without_a_key_there_is_no_key_service() -> None:
    assert KeySettings.from_env({"HOLDFAST_MASTER_KEYS": ""}).open() is None


def test_keys_come_from_the_environment_or_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"new:{KEY}\nold:{KEY}\n")

    for environ in ({"HOLDFAST_MASTER_KEYS": f"new:{KEY},old:{KEY}"}, {"HOLDFAST_MASTER_KEYS_FILE": str(file)}):
        service = KeySettings.from_env(environ).open()
        assert service is not None
        assert service.newest == "new"


def test_keys_are_in_no_representation_of_the_settings(tmp_path: Path) -> None:
    settings = Settings.load({"HOLDFAST_HOME": str(tmp_path), "HOLDFAST_MASTER_KEYS": f"new:{KEY}"})

    assert settings.keys.configured
    assert KEY not in repr(settings)


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        (
            {"HOLDFAST_MASTER_KEYS": f"a:{KEY}", "HOLDFAST_KMS": "m:f"},
            "Set one of HOLDFAST_MASTER_KEYS and HOLDFAST_KMS",
        ),
        ({"HOLDFAST_MASTER_KEYS_FILE": "/nowhere/keys"}, "`/nowhere/keys` cannot be read"),
        ({"HOLDFAST_KMS": "no_such_module:service"}, "cannot be loaded"),
        ({"HOLDFAST_KMS": "half_kms:Half"}, "has no `wrap`, `unwrap`"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(
    environ: dict[str, str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_kms.py").write_text(KMS)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(KeysError, match=problem):
        KeySettings.from_env(environ).open()


async def test_a_kms_of_the_users_wraps_and_unwraps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole_kms.py").write_text(KMS)
    monkeypatch.syspath_prepend(tmp_path)

    service = KeySettings(kms="whole_kms:Kms").open()

    assert service is not None
    assert await service.unwrap(await service.wrap(b"data key", b""), service.newest, b"") == b"data key"


def test_a_file_with_a_bad_key_is_named_and_the_key_is_not(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("new:c2hvcnQ=\n")

    with pytest.raises(BadMasterKey) as refused:
        KeySettings(file=file).open()
    assert str(file) in str(refused.value)
    assert "c2hvcnQ" not in str(refused.value)


async def test_a_worker_that_must_encrypt_does_not_start_without_a_key(temporal: Client, tmp_path: Path) -> None:
    config = tmp_path / "holdfast.toml"
    config.write_text('[ledger]\nencryption = "required"\n')

    with pytest.raises(SettingsError, match="required"):
        async with open_work(Settings(home=tmp_path, config=config), temporal):
            pass
