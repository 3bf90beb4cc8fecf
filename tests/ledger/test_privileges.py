"""Who may do what. The app's login is an ordinary member of `holdfast_app`; migrating needs no superuser."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest

from holdfast_ledger.migrate import migrate, status
from holdfast_ledger.store import Ledger
from tests.conftest import Database, with_database, with_login
from tests.ledger.conftest import Conversation

TABLES = (
    *("session", "content", "message", "saga", "effect", "attempt", "turn", "approval", "kill_switch", "breaker"),
    *("catalogue", "meta", "chain", "entry", "schema_version"),
)
PARTITIONS = "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'holdfast.entry'::regclass"
FIRST_COLUMN = "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum = 1"
CHANGES = (
    "INSERT INTO holdfast.{table} SELECT * FROM holdfast.{table} LIMIT 1",
    "UPDATE holdfast.{table} SET {column} = {column}",
    "DELETE FROM holdfast.{table}",
    "TRUNCATE holdfast.{table} CASCADE",
    "ALTER TABLE holdfast.{table} ADD COLUMN mine int",
    "DROP TABLE holdfast.{table} CASCADE",
    "MERGE INTO holdfast.{table} t USING (SELECT 1) o ON false WHEN NOT MATCHED THEN INSERT DEFAULT VALUES",
    "COPY holdfast.{table} FROM PROGRAM 'true'",
    "ALTER TABLE holdfast.{table} OWNER TO CURRENT_USER",
)
ESCAPES = (
    "SET ROLE holdfast_owner",
    "SET session_replication_role = replica",
    "ALTER TABLE holdfast.entry DISABLE TRIGGER ALL",
    "ALTER TABLE holdfast.entry DETACH PARTITION holdfast.entry_rest",
    "DROP FUNCTION holdfast.refuse_change() CASCADE",
    "CREATE TABLE holdfast.mine (id int)",
    "CREATE FUNCTION holdfast.mine() RETURNS int LANGUAGE sql RETURN 1",
    "CREATE SCHEMA mine",
    "SELECT holdfast.append(gen_random_uuid(), 'k', '', 'kind', now(), '')",
    "SELECT holdfast.append_all(gen_random_uuid(), '[]', '{}', '{}')",
    "SELECT holdfast.end_saga('s', 'COMMITTED', '')",
    "SELECT holdfast.make_partitions(1)",
    "UPDATE audit.session_timeline SET actor = 'me'",
    "DELETE FROM audit.run",
)


@pytest.fixture
async def app(database: Database, conversation: Conversation) -> AsyncIterator[asyncpg.Connection]:
    """A raw connection as the app, in a database with a session that has a turn."""
    await conversation.plan()
    connection = await asyncpg.connect(database.dsn)
    yield connection
    await connection.close()


async def refused(connection: asyncpg.Connection, statement: str) -> None:
    try:
        await connection.execute(statement)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.ObjectNotInPrerequisiteStateError):
        return  # the latter: a view that nobody can write through
    pytest.fail(f"this was allowed: {statement}")


async def entries(owner: asyncpg.Connection) -> list[asyncpg.Record]:
    return await owner.fetch("SELECT * FROM holdfast.entry ORDER BY session_key, seq")


async def test_the_app_changes_no_table_by_any_statement(
    app: asyncpg.Connection, owner: asyncpg.Connection
) -> None:
    before = await entries(owner)
    for table in TABLES:
        await app.execute(f"GRANT ALL ON holdfast.{table} TO CURRENT_USER")  # only warns: nothing is granted
        column = await owner.fetchval(FIRST_COLUMN, f"holdfast.{table}")
        for statement in CHANGES:
            await refused(app, statement.format(table=table, column=column))
    assert await entries(owner) == before


async def test_the_app_has_no_way_around(app: asyncpg.Connection) -> None:
    for statement in ESCAPES:
        await refused(app, statement)


async def test_the_app_reaches_no_partition_directly(app: asyncpg.Connection, owner: asyncpg.Connection) -> None:
    partitions = await owner.fetch(PARTITIONS)
    assert len(partitions) > 12
    for row in partitions:
        for statement in ("DELETE FROM {}", "TRUNCATE {}", "UPDATE {} SET seq = 1", "SELECT FROM {}"):
            await refused(app, statement.format(row["name"]))


@pytest.mark.parametrize("replica", [False, True])
async def test_triggers_stop_even_the_owner_on_every_partition(
    app: asyncpg.Connection, owner: asyncpg.Connection, replica: bool
) -> None:
    if replica:
        await owner.execute("SET session_replication_role = replica")
    names = [row["name"] for row in await owner.fetch(PARTITIONS)]
    for table in ("holdfast.entry", *names):
        with pytest.raises(asyncpg.PostgresError, match="append-only"):
            await owner.execute(f"TRUNCATE {table}")
    for statement in ("DELETE FROM holdfast.entry", "UPDATE holdfast.entry SET actor = 'eve'"):
        with pytest.raises(asyncpg.PostgresError, match="append-only"):
            await owner.execute(statement)


async def test_nothing_is_granted_to_everybody(owner: asyncpg.Connection) -> None:
    functions = await owner.fetch(
        "SELECT p.oid::regprocedure::text AS name "
        "FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a "
        "WHERE p.pronamespace IN ('holdfast'::regnamespace, 'audit'::regnamespace) AND a.grantee = 0"
    )
    tables = await owner.fetch(
        "SELECT c.relname AS name FROM pg_class c, aclexplode(c.relacl) a "
        "WHERE c.relnamespace IN ('holdfast'::regnamespace, 'audit'::regnamespace) AND a.grantee = 0"
    )
    assert [row["name"] for row in [*functions, *tables]] == []


async def test_every_function_the_app_may_call_runs_as_the_owner_on_a_fixed_path(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch(
        "SELECT p.proname, p.prosecdef, p.proconfig, pg_get_userbyid(p.proowner) AS owner FROM pg_proc p "
        "WHERE p.pronamespace = 'holdfast'::regnamespace "
        "AND has_function_privilege('holdfast_app', p.oid, 'EXECUTE')"
    )
    assert len(rows) > 10
    for row in rows:
        assert row["prosecdef"], row["proname"]
        assert row["proconfig"] == ["search_path=pg_catalog, holdfast, pg_temp"], row["proname"]
        assert row["owner"] == "holdfast_owner"


async def test_an_auditor_reads_the_views_and_the_chain_and_nothing_else(
    database: Database, conversation: Conversation, owner: asyncpg.Connection
) -> None:
    await conversation.plan()
    login = f"auditor_{secrets.token_hex(4)}"
    await owner.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'x' IN ROLE holdfast_auditor")
    auditor = await asyncpg.connect(with_login(database.dsn, login, "x"))
    try:
        views = await auditor.fetch(
            "SELECT table_name AS name FROM information_schema.views WHERE table_schema = 'audit'"
        )
        assert {row["name"] for row in views} == {
            "run",
            "step",
            "tool_call",
            "tool_result",
            "authz_decision",
            "compensation_action",
            "session_timeline",
        }
        for row in views:
            await auditor.fetch(f"SELECT * FROM audit.{row['name']}")
        await auditor.fetch("SELECT body, hash FROM holdfast.entry")
        for table in ("content", "effect", "message", "approval"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await auditor.fetch(f"SELECT * FROM holdfast.{table}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await auditor.fetch("SELECT holdfast.append_facts('s', '[]', '{}', '{}')")
    finally:
        await auditor.close()
        await owner.execute(f"DROP ROLE {login}")


async def test_a_login_without_superuser_migrates_and_the_app_works_on_it(
    database: Database, owner: asyncpg.Connection
) -> None:
    name = f"plain_{secrets.token_hex(4)}"
    await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x' CREATEROLE")
    await owner.execute(f"GRANT holdfast_owner TO {name} WITH ADMIN TRUE, SET FALSE, INHERIT FALSE")
    await owner.execute(f"CREATE DATABASE {name} OWNER {name}")
    dsn = with_database(database.owner_dsn, name)
    try:
        report = await migrate(with_login(dsn, name, "x"))
        assert report.version == (await status(dsn)).wanted
        ledger = await Ledger.connect(with_database(database.dsn, name))
        try:
            await ledger.check(cluster_id="c", namespace="n")
        finally:
            await ledger.close()
    finally:
        await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await owner.execute(f"DROP OWNED BY {name}")
        await owner.execute(f"DROP ROLE {name}")
