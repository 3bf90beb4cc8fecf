"""`ledger checkpoint | verify | export | archive`: proof that leaves the database and comes back to accuse it."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast_ledger.signing import new_key
from tests.cli.conftest import Cli
from tests.conftest import execute


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "key.pem"
    file.write_text(new_key())
    return file


@pytest.fixture
async def signing(idle_cli: Cli, key: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command with a key, and one session on record that no worker took up."""
    monkeypatch.setenv("HOLDFAST_CHECKPOINT_KEY", str(key))
    monkeypatch.setenv("HOLDFAST_MIGRATE_DSN", idle_cli.house.database.owner_dsn)
    done = await idle_cli("tool", "disable", "refund", "--reason", "broken", "--as", "ana")
    assert done.code == 0
    return idle_cli


async def test_a_checkpoint_is_made_once_and_its_number_and_hash_are_told(signing: Cli) -> None:
    made = (await signing("ledger", "checkpoint", "--json")).json
    again = await signing("ledger", "checkpoint", "-q")

    assert (made["number"], made["made"], made["sessions"]) == (1, True, 1)
    assert again.out.split() == ["1", made["hash"]]
    await signing("tool", "enable", "refund", "--reason", "fixed")
    assert (await signing("ledger", "checkpoint", "--json")).json["number"] == 2


async def test_a_log_that_was_kept_accuses_a_database_without_it(signing: Cli, tmp_path: Path) -> None:
    assert (await signing("ledger", "checkpoint", "--export", "kept.jsonl")).code == 0
    whole = await signing("ledger", "verify", "--since", "kept.jsonl", "--json")
    for arguments in ([], ["@operations"], ["--since", "1"]):
        assert (await signing("ledger", "verify", *arguments)).code == 0
    assert (whole.code, whole.json["checkpoints"], whole.json["signed"]) == (0, 1, True)
    assert whole.json["covered"] == 1

    await execute(
        signing.house.database.owner_dsn,
        "ALTER TABLE holdfast.checkpoint DISABLE TRIGGER ALL",
        "ALTER TABLE holdfast.checkpoint_advance DISABLE TRIGGER ALL",
        "DELETE FROM holdfast.checkpoint_advance",
        "DELETE FROM holdfast.checkpoint",
    )
    for since in ("kept.jsonl", "1"):
        broken = await signing("ledger", "verify", "--since", since)
        assert broken.code == 1
        assert "@checkpoints: there was a checkpoint 1, and the log ends at 0" in broken.out
        assert "@guards: the trigger of `holdfast.checkpoint`" in broken.out
    missing = await signing("ledger", "verify", "--since", "nowhere.jsonl")
    assert (missing.code, "neither a checkpoint's number nor a file" in missing.err) == (2, True)


async def test_an_export_is_verified_with_the_public_key_alone(
    signing: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await signing("ledger", "checkpoint", "--export", "kept.jsonl")
    (tmp_path / "public.pem").write_text((await signing("ledger", "checkpoint", "--public-key")).out)
    (tmp_path / "session.jsonl").write_text((await signing("ledger", "export", "@operations")).out)
    for name in ("HOLDFAST_CHECKPOINT_KEY", "HOLDFAST_DSN", "HOLDFAST_MIGRATE_DSN"):
        monkeypatch.delenv(name)

    verified = await signing("ledger", "verify", "--export", "session.jsonl", "--key", "public.pem", "--json")
    assert (verified.code, verified.json["signed"], verified.json["ok"]) == (0, True, True)
    unsigned = await signing("ledger", "verify", "--export", "session.jsonl", "--since", "kept.jsonl")
    assert (unsigned.code, "no signature was verified" in unsigned.out) == (0, True)
    (tmp_path / "other.pem").write_text(new_key())
    stranger = await signing("ledger", "verify", "--export", "kept.jsonl", "--key", "other.pem")
    assert (stranger.code, "none of those trusted" in stranger.out) == (1, True)
    both = await signing("ledger", "verify", "@operations", "--export", "session.jsonl")
    assert both.code == 2


async def test_a_key_that_is_none_or_missing_is_told_without_its_text(
    signing: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_key = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----"
    monkeypatch.setenv("HOLDFAST_CHECKPOINT_KEY", no_key)
    refused = await signing("ledger", "checkpoint")
    assert (refused.code, "must be an Ed25519 private key" in refused.err) == (2, True)
    assert "secret" not in refused.err
    monkeypatch.delenv("HOLDFAST_CHECKPOINT_KEY")
    missing = await signing("ledger", "checkpoint")
    assert (missing.code, "HOLDFAST_CHECKPOINT_KEY" in missing.err) == (2, True)


async def test_sessions_that_ended_go_to_files_and_the_others_stay(signing: Cli, tmp_path: Path) -> None:
    session_id = (await signing("start", "hello", "-q")).out.strip()
    await execute(
        signing.house.database.owner_dsn,
        f"SELECT holdfast.refuse_session('{session_id}', 'nobody came', '2026-01-01')",
    )
    future = await signing("ledger", "archive", "--before", "2999-01-01", "--to", "archive")
    assert (future.code, "must be in the past" in future.err) == (2, True)

    none = await signing("ledger", "archive", "--before", "2020-01-01", "--to", "archive", "--json")
    assert (none.code, none.json["archived"], none.json["kept"]) == (0, [], [])
    report = (await signing("ledger", "archive", "--before", "2026-06-01", "--to", "archive", "--json")).json
    [archived] = report["archived"]
    assert (archived["session_id"], archived["entries"], report["kept"]) == (session_id, 0, [])
    assert (await signing("ledger", "verify", "--archives", "archive")).code == 0
    shown = await signing("show", session_id, "--json")
    assert (shown.code, shown.json["archive"], shown.json["timeline"]) == (0, archived["file"], [])
    assert f"is in the archive `{archived['file']}`" in shown.err
    for command in (("ledger", "show"), ("ledger", "export")):
        assert archived["file"] in (await signing(*command, session_id)).err
    (tmp_path / "archive" / archived["file"]).unlink()
    missing = await signing("ledger", "verify", "--archives", "archive")
    assert (missing.code, f"the archive of `{session_id}`" in missing.out) == (1, True)
