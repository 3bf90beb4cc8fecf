"""Migrations: again, at once, on a live database, and never from another build's schema."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
from collections.abc import AsyncIterator

import asyncpg
import pytest

from holdfast_ledger import migrate as migrations
from holdfast_ledger.errors import LedgerUnavailable, MigrationRefused, SchemaMismatch, WrongTemporal
from holdfast_ledger.migrate import migrate, status
from holdfast_ledger.store import Ledger
from holdfast_workers.stack.postgres import program
from tests.conftest import Database, with_database
from tests.ledger.conftest import Conversation


@pytest.fixture
async def empty_dsn(database: Database, owner: asyncpg.Connection) -> AsyncIterator[str]:
    """The owner's DSN of a database without anything in it."""
    name = f"empty_{secrets.token_hex(4)}"
    await owner.execute(f"CREATE DATABASE {name}")
    yield with_database(database.owner_dsn, name)
    await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_migrating_again_changes_nothing(database: Database) -> None:
    report = await migrate(database.owner_dsn)

    assert report.applied == ()
    assert report.partitions == ()
    assert (await status(database.owner_dsn)).current


async def test_two_migrations_at_once_apply_each_step_once(empty_dsn: str) -> None:
    before = await status(empty_dsn)
    assert (before.version, before.current, before.pending[0]) == (0, False, "0001_tables")
    told: list[str] = []

    reports = await asyncio.gather(*(migrate(empty_dsn, on_progress=told.append) for _ in range(3)))

    assert sorted(step for report in reports for step in report.applied) == list(before.pending)
    assert len(told) == len(before.pending)
    assert (await status(empty_dsn)).current


async def test_a_living_ledger_goes_on_while_it_is_migrated(database: Database, conversation: Conversation) -> None:
    await conversation.owner.execute("DROP TABLE holdfast.entry_" + (await _last_month(conversation.owner)))

    async def work() -> None:
        for _ in range(20):
            await conversation.take_turn()

    _, report = await asyncio.gather(work(), migrate(database.owner_dsn))

    assert len(report.partitions) == 1
    assert conversation.turn == 20


async def _last_month(owner: asyncpg.Connection) -> str:
    name = await owner.fetchval(
        "SELECT max(inhrelid::regclass::text) FILTER (WHERE inhrelid::regclass::text ~ '\\d$') "
        "FROM pg_inherits WHERE inhparent = 'holdfast.entry'::regclass"
    )
    return str(name).removeprefix("holdfast.entry_")


async def test_entries_go_to_the_partition_of_the_month_their_session_began(conversation: Conversation) -> None:
    month = await conversation.owner.fetchval("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY_MM')")
    partition = await conversation.owner.fetchval("SELECT DISTINCT tableoid::regclass::text FROM holdfast.entry")
    assert partition == f"holdfast.entry_{month}"


async def test_a_month_without_a_partition_is_written_to_the_default_one(conversation: Conversation) -> None:
    await conversation.owner.execute(
        "UPDATE holdfast.session SET session_key = session_key WHERE false;"
        "INSERT INTO holdfast.session (id, session_key, agent, requested_by) "
        "VALUES ('far', holdfast.first_key(now() + interval '5 years'), 'a', 'b');"
        "INSERT INTO holdfast.chain SELECT session_key, 0, holdfast.chain_start(id, session_key) "
        "FROM holdfast.session WHERE id = 'far'"
    )
    far = Conversation(ledger=conversation.ledger, owner=conversation.owner, session_id="far")
    await far.open()

    rest = await conversation.owner.fetchval("SELECT count(*) FROM holdfast.entry_rest")
    assert rest == 1


async def test_the_printed_sql_makes_the_same_schema(empty_dsn: str) -> None:
    run = await asyncio.to_thread(
        subprocess.run,
        [str(program("psql")), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", empty_dsn],
        input=migrations.sql(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    assert (await status(empty_dsn)).current


async def test_an_older_schema_is_refused_with_the_command_that_helps(
    database: Database, ledger: Ledger, owner: asyncpg.Connection
) -> None:
    await owner.execute(
        "DELETE FROM holdfast.schema_version WHERE version = (SELECT max(version) FROM holdfast.schema_version)"
    )
    with pytest.raises(SchemaMismatch, match="holdfast db migrate"):
        await ledger.check(cluster_id="c", namespace="n")


async def test_an_empty_database_is_refused_with_the_command_that_helps(empty_dsn: str) -> None:
    ledger = await Ledger.connect(empty_dsn)
    try:
        with pytest.raises(SchemaMismatch, match="holdfast db"):
            await ledger.check(cluster_id="c", namespace="n")
    finally:
        await ledger.close()


@pytest.mark.parametrize(("compatible_from", "refused"), [(1, False), (99, True)])
async def test_a_newer_schema_is_refused_unless_it_says_that_older_code_may_run(
    ledger: Ledger, owner: asyncpg.Connection, compatible_from: int, refused: bool
) -> None:
    await owner.execute("INSERT INTO holdfast.schema_version VALUES (99, 'later', 'x', $1)", compatible_from)
    if not refused:
        await ledger.check(cluster_id="c", namespace="n")
        return
    with pytest.raises(SchemaMismatch, match="upgrade Holdfast"):
        await ledger.check(cluster_id="c", namespace="n")


async def test_a_migration_edited_after_it_was_applied_is_refused(
    database: Database, owner: asyncpg.Connection
) -> None:
    await owner.execute("UPDATE holdfast.schema_version SET digest = 'other' WHERE version = 1")

    assert (await status(database.owner_dsn)).edited == ("0001_tables",)
    with pytest.raises(MigrationRefused, match="0001_tables"):
        await migrate(database.owner_dsn)


async def test_a_schema_of_somebody_elses_is_left_alone(empty_dsn: str) -> None:
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute("CREATE SCHEMA audit")
    await connection.close()

    with pytest.raises(MigrationRefused, match="database of its own"):
        await migrate(empty_dsn)


async def test_a_ledger_belongs_to_the_first_temporal_that_used_it(ledger: Ledger) -> None:
    await ledger.check(cluster_id="one", namespace="default")
    await ledger.check(cluster_id="one", namespace="default")
    for cluster_id, namespace in (("two", "default"), ("one", "other")):
        with pytest.raises(WrongTemporal, match="belongs to Temporal cluster `one`"):
            await ledger.check(cluster_id=cluster_id, namespace=namespace)


async def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    dsn = "postgresql://me:hunter2@127.0.0.1:1/holdfast"
    for attempt in (migrate(dsn), status(dsn), Ledger.connect(dsn)):
        with pytest.raises(LedgerUnavailable, match=r"127\.0\.0\.1:1/holdfast") as raised:
            await attempt
        assert "hunter2" not in str(raised.value)
