"""Retention: a session leaves the database for a file that verifies, and is not taken for lost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from holdfast.facts import Kind
from holdfast.states import EffectState, RecoveryClass, SessionStatus
from holdfast_ledger import operations
from holdfast_ledger.archive import ArchiveReport, archive, archive_session, verify_archive_files
from holdfast_ledger.chain import Verdict
from holdfast_ledger.checkpointing import make_checkpoint
from holdfast_ledger.database import Database as Connection
from holdfast_ledger.errors import ArchiveRefused, LedgerError, SessionArchived
from holdfast_ledger.export import verify_export
from holdfast_ledger.records import Closing
from holdfast_ledger.signing import SigningKey, TrustedKeys, new_key
from holdfast_ledger.verify import verify_all, verify_archives, verify_guards
from holdfast_workers.stack.servers import ServerAddresses
from tests.conftest import Database, cloned
from tests.ledger.conftest import START, Conversation, connected

KEY = SigningKey.of_pem(new_key())
TRUSTED = TrustedKeys.of_pem(KEY.public_pem)
LATER = datetime(2100, 1, 1, tzinfo=UTC)
GONE = ("content", "message", "saga", "effect", "approval", "turn", "entry")
STAYS = ("session", "chain", "archive", "checkpoint_advance", "session_key", "erasure")


@pytest.fixture
async def owner_login(database: Database) -> AsyncIterator[Connection]:
    connected = await Connection.connect(database.owner_dsn, min_size=1, max_size=1, pgbouncer=False)
    yield connected
    await connected.close()


@pytest.fixture(scope="module")
async def story(servers: ServerAddresses, template: str) -> AsyncIterator[tuple[str, Conversation]]:
    """A database where `trip-1` did a call and ended, `trip-2` goes on, and a checkpoint covers both."""
    async with cloned(servers, template) as database:
        async with connected(database) as conversation:
            await conversation.open()
            await replace(conversation, session_id="trip-2").open()
            await finish(conversation)
            await make_checkpoint(conversation.ledger.database, KEY, wait=True)
        yield urlsplit(database.dsn).path[1:], conversation


@pytest.fixture
async def database(servers: ServerAddresses, story: tuple[str, Conversation]) -> AsyncIterator[Database]:
    async with cloned(servers, story[0]) as database:
        yield database


@pytest.fixture
async def ended(database: Database, story: tuple[str, Conversation]) -> AsyncIterator[Conversation]:
    """The story in a database of this test's own."""
    async with connected(database, story[1]) as conversation:
        yield conversation


async def finish(conversation: Conversation) -> None:
    call = await conversation.plan(RecoveryClass.IDEMPOTENT)
    granted = await conversation.grant(call)
    await conversation.record(call, granted.token, EffectState.DONE)
    await conversation.take_turn(commit_saga=True)
    await close(conversation)


async def close(conversation: Conversation, **changes: Any) -> None:
    closing = Closing(
        session_id=conversation.session_id,
        status=SessionStatus.COMPLETED,
        reason="",
        saga_id=None,
        at=START + timedelta(hours=1),
    )
    await conversation.ledger.close_session(replace(closing, **changes))


async def archived(
    ended: Conversation, owner_login: Connection, directory: Path, before: datetime = LATER
) -> ArchiveReport:
    return await archive(ended.ledger.database, owner_login, directory, before=before, by="ana")


async def verdicts(conversation: Conversation) -> dict[str, Verdict]:
    return {each.session_id: each async for each in verify_all(conversation.ledger.database)}


async def counts(conversation: Conversation, *tables: str) -> dict[str, int]:
    key = "(SELECT session_key FROM holdfast.session WHERE id = 'trip-1')"
    return {
        table: await conversation.owner.fetchval(f"SELECT count(*) FROM holdfast.{table} WHERE session_key = {key}")
        for table in tables
    }


async def test_an_archived_session_is_in_its_file_and_not_lost(
    ended: Conversation, owner_login: Connection, tmp_path: Path
) -> None:
    before = await counts(ended, *GONE)
    report = await archived(ended, owner_login, tmp_path)

    [one] = report.archived
    assert (one.session_id, one.entries) == ("trip-1", before["entry"])
    assert {each.session_id: each.reason for each in report.kept} == {"trip-2": "it has not ended"}
    assert set((await counts(ended, *GONE)).values()) == {0}
    found = await verdicts(ended)
    assert all(each.ok for each in found.values())
    assert found["trip-1"].archived == one.entries
    assert (await verify_archives(ended.ledger.database)).ok
    assert (await verify_guards(ended.ledger.database)).ok
    assert await verify_archive_files(ended.ledger.database, tmp_path, TRUSTED) == []


async def test_the_file_holds_chain_effects_and_transcript_and_verifies_alone(
    ended: Conversation, owner_login: Connection, tmp_path: Path
) -> None:
    before = await counts(ended, *GONE)
    [one] = (await archived(ended, owner_login, tmp_path)).archived
    lines = (tmp_path / one.file).read_text().splitlines()

    verdict = verify_export(lines, TRUSTED)
    assert verdict.ok
    assert verdict.covered == verdict.entries == one.entries
    records = [json.loads(line)["record"] for line in lines if line.startswith('{"record"')]
    assert {table: records.count(table) for table in before} == before | {"entry": 0}
    assert records.count("attempt") == 3


async def test_an_archive_is_told_in_operations_and_one_that_is_not_is_found(
    ended: Conversation, owner_login: Connection, tmp_path: Path
) -> None:
    [one] = (await archived(ended, owner_login, tmp_path)).archived
    ended.session_id = "@operations"
    [entry] = await ended.entries(Kind.SESSION_ARCHIVED)
    assert entry["actor"] == "ana"
    assert json.loads(entry["body"])["sha256"] == one.sha256

    await ended.owner.execute("ALTER TABLE holdfast.archive DISABLE TRIGGER ALL")
    await ended.owner.execute("UPDATE holdfast.archive SET file_digest = 'other'")
    assert "was never told" in str((await verify_archives(ended.ledger.database)).problem)


async def test_a_file_that_is_gone_or_edited_is_found(
    ended: Conversation, owner_login: Connection, tmp_path: Path
) -> None:
    [one] = (await archived(ended, owner_login, tmp_path)).archived
    file = tmp_path / one.file
    text = file.read_text()

    file.write_text(text.replace("refund", "refunds", 1))
    [edited] = await verify_archive_files(ended.ledger.database, tmp_path, TRUSTED)
    assert "is not the file that was written" in str(edited.problem)
    file.unlink()
    [missing] = await verify_archive_files(ended.ledger.database, tmp_path, TRUSTED)
    assert "is missing" in str(missing.problem)


async def test_a_session_that_runs_or_has_an_open_saga_or_no_checkpoint_stays(
    ended: Conversation, owner_login: Connection, tmp_path: Path
) -> None:
    database = ended.ledger.database
    with pytest.raises(ArchiveRefused, match="has not ended"):
        await archive_session(database, owner_login, tmp_path, "trip-2", by="ana")
    await operations.disable(database, "other", by="ana", reason="broken")
    with pytest.raises(ArchiveRefused, match="of the ledger's own"):
        await archive_session(database, owner_login, tmp_path, "@operations", by="ana")
    held = Conversation(ledger=ended.ledger, owner=ended.owner, session_id="trip-3")
    await held.open()
    call = await held.plan()
    granted = await held.grant(call)
    await held.record(call, granted.token, EffectState.UNKNOWN)
    await close(held, status=SessionStatus.FAILED, saga_id=held.saga_id)
    with pytest.raises(ArchiveRefused, match="a saga of it is not closed"):
        await archive_session(database, owner_login, tmp_path, "trip-3", by="ana")
    late = Conversation(ledger=ended.ledger, owner=ended.owner, session_id="trip-4")
    await late.open()
    await finish(late)
    with pytest.raises(ArchiveRefused, match="no checkpoint covers"):
        await archive_session(database, owner_login, tmp_path, "trip-4", by="ana")
    assert (await archived(ended, owner_login, tmp_path, before=START)).archived == ()


async def test_what_is_archived_stays_archived_and_an_entry_goes_only_so(
    ended: Conversation, owner_login: Connection, tmp_path: Path
) -> None:
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        await ended.owner.execute("DELETE FROM holdfast.entry")
    await archived(ended, owner_login, tmp_path)
    assert (await archived(ended, owner_login, tmp_path)).archived == ()
    with pytest.raises(SessionArchived, match="is in an archive"):
        await archive_session(ended.ledger.database, owner_login, tmp_path, "trip-1", by="ana")
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        await ended.owner.execute("DELETE FROM holdfast.archive")
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        await ended.owner.execute("DELETE FROM holdfast.entry")


async def test_the_apps_login_cannot_archive(ended: Conversation, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="permission denied"):
        await archived(ended, ended.ledger.database, tmp_path)


async def test_every_table_of_a_session_is_archived_or_stays_on_purpose(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch(
        "SELECT DISTINCT c.relname AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
        "WHERE c.relnamespace = 'holdfast'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition "
        "AND a.attname IN ('session_key', 'effect_id')"
    )
    assert {row["name"] for row in rows} == {*GONE, *STAYS, "attempt"}


async def test_a_past_month_without_entries_is_dropped(
    ended: Conversation, owner_login: Connection, tmp_path: Path
) -> None:
    await ended.owner.execute(
        "SET ROLE holdfast_owner; CREATE TABLE holdfast.entry_2020_01 PARTITION OF holdfast.entry FOR VALUES "
        "FROM ('016f5e66-e800-0000-0000-000000000000') TO ('016ffe0c-3c00-0000-0000-000000000000'); RESET ROLE"
    )
    assert (await archived(ended, owner_login, tmp_path)).partitions == ("entry_2020_01",)
    assert (await verdicts(ended))["trip-2"].ok
