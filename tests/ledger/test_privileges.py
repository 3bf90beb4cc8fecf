"""Who may do what. The app's login is an ordinary member of `holdfast_app`; migrating needs no superuser."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest

from holdfast_ledger.checkpointing import make_checkpoint
from holdfast_ledger.migrate import migrate, status
from holdfast_ledger.signing import SigningKey, new_key
from holdfast_ledger.store import Ledger
from tests.conftest import Database, with_database, with_login
from tests.ledger.conftest import Conversation

TABLES = (
    "SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.relnamespace = 'holdfast'::regnamespace "
    "AND c.relkind IN ('r', 'p') AND c.relname <> 'chunk' ORDER BY 1"
)
"""Every table and partition but the watchers' one, which the app writes by itself."""
GROWING = ("entry", "entry_rest", "chain", "checkpoint", "checkpoint_advance", "archive")
MONTH = re.compile(r"entry_\d{4}_\d{2}$")
PARTITIONS = "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'holdfast.entry'::regclass"
FIRST_COLUMN = "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum = 1"
KEY = (
    "SELECT string_agg(a.attname, ', ') FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
    "AND a.attnum = ANY(i.indkey) WHERE i.indrelid = $1::text::regclass AND i.indisprimary"
)
CHANGES = (
    "INSERT INTO {table} SELECT * FROM {table} LIMIT 1",
    "INSERT INTO {table} DEFAULT VALUES",
    "INSERT INTO {table} SELECT * FROM {table} ON CONFLICT ({key}) DO UPDATE SET {column} = excluded.{column}",
    "INSERT INTO {table} SELECT * FROM {table} ON CONFLICT DO NOTHING",
    "UPDATE {table} SET {column} = {column}",
    "UPDATE ONLY {table} SET {column} = DEFAULT WHERE false",
    "DELETE FROM {table}",
    "WITH gone AS (DELETE FROM {table} RETURNING 1) SELECT count(*) FROM gone",
    "TRUNCATE {table} CASCADE",
    "MERGE INTO {table} t USING (SELECT 1) o ON false WHEN NOT MATCHED THEN INSERT DEFAULT VALUES",
    "MERGE INTO {table} t USING (SELECT 1) o ON true WHEN MATCHED THEN DELETE",
    "MERGE INTO {table} t USING (SELECT 1) o ON true WHEN MATCHED THEN UPDATE SET {column} = t.{column}",
    "COPY {table} FROM PROGRAM 'true'",
    "COPY {table} FROM '/dev/null'",
    "SELECT * FROM {table} FOR UPDATE",
    "DO $$ BEGIN LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; END $$",
    "ALTER TABLE {table} ADD COLUMN mine int",
    "ALTER TABLE {table} DROP COLUMN {column} CASCADE",
    "ALTER TABLE {table} DISABLE TRIGGER ALL",
    "ALTER TABLE {table} DISABLE TRIGGER USER",
    "ALTER TABLE {table} SET UNLOGGED",
    "ALTER TABLE {table} RENAME TO mine",
    "ALTER TABLE {table} SET SCHEMA public",
    "ALTER TABLE {table} OWNER TO CURRENT_USER",
    "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
    "CREATE TRIGGER mine BEFORE INSERT ON {table} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE RULE mine AS ON INSERT TO {table} DO INSTEAD NOTHING",
    "CREATE INDEX mine ON {table} ({column})",
    "DROP TABLE {table} CASCADE",
)
ESCAPES = (
    "SET ROLE holdfast_owner",
    "SET ROLE holdfast_auditor",
    "SET SESSION AUTHORIZATION holdfast_owner",
    "GRANT holdfast_owner TO CURRENT_USER",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "SET session_replication_role = replica",
    "SELECT set_config('session_replication_role', 'replica', false)",
    "ALTER TABLE holdfast.entry DISABLE TRIGGER ALL",
    "ALTER TABLE holdfast.entry DETACH PARTITION holdfast.entry_rest",
    "DROP TRIGGER entries_stay ON holdfast.entry",
    "DROP FUNCTION holdfast.refuse_change() CASCADE",
    "DROP FUNCTION holdfast.refuse_loss() CASCADE",
    "CREATE OR REPLACE FUNCTION holdfast.refuse_loss() RETURNS trigger LANGUAGE sql AS 'SELECT NULL'",
    "ALTER FUNCTION holdfast.append_facts(text, jsonb, bytea[], bytea[]) SECURITY INVOKER",
    "ALTER FUNCTION holdfast.append_facts(text, jsonb, bytea[], bytea[]) SET search_path = public",
    "DROP SCHEMA holdfast CASCADE",
    "CREATE TABLE holdfast.mine (id int)",
    "CREATE FUNCTION holdfast.mine() RETURNS int LANGUAGE sql RETURN 1",
    "CREATE SCHEMA mine",
    "SELECT holdfast.append(gen_random_uuid(), 'k', '', 'kind', now(), '')",
    "SELECT holdfast.append_all(gen_random_uuid(), '[]', '{}', '{}')",
    "SELECT holdfast.end_saga('s', 'COMMITTED', '')",
    "SELECT holdfast.make_partitions(1)",
    "SELECT holdfast.archive_session('{}', '', '')",
    "SELECT holdfast.drop_empty_partitions()",
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


REFUSALS = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # a view that nobody can write through
)


async def refused(connection: asyncpg.Connection, statement: str) -> None:
    try:
        await connection.execute(statement)
    except REFUSALS:
        return
    except asyncpg.PostgresError as error:
        pytest.fail(f"this was refused for another reason: {statement}: {error}")
    pytest.fail(f"this was allowed: {statement}")


async def entries(owner: asyncpg.Connection) -> list[asyncpg.Record]:
    return await owner.fetch("SELECT * FROM holdfast.entry ORDER BY session_key, seq")


async def test_the_app_changes_no_table_by_any_statement(
    app: asyncpg.Connection, owner: asyncpg.Connection
) -> None:
    before = await entries(owner)
    tables = [row["name"] for row in await owner.fetch(TABLES)]
    assert {f"holdfast.{name}" for name in GROWING} < set(tables)
    for table in [name for name in tables if not MONTH.search(name) or name == max(filter(MONTH.search, tables))]:
        await app.execute(
            f"DO $$ BEGIN GRANT ALL ON {table} TO CURRENT_USER; EXCEPTION WHEN OTHERS THEN NULL; END $$"
        )
        column, key = await owner.fetchval(FIRST_COLUMN, table), await owner.fetchval(KEY, table)
        for statement in CHANGES:
            if key or "{key}" not in statement:  # one table has no key
                await refused(app, statement.format(table=table, column=column, key=key))
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
    app: asyncpg.Connection, conversation: Conversation, owner: asyncpg.Connection, replica: bool
) -> None:
    if replica:
        await owner.execute("SET session_replication_role = replica")
    names = [row["name"] for row in await owner.fetch(PARTITIONS)]
    for table in ("holdfast.entry", *names):
        with pytest.raises(asyncpg.PostgresError, match="append-only"):
            await owner.execute(f"TRUNCATE {table}")
    key = SigningKey.of_pem(new_key())
    assert await make_checkpoint(conversation.ledger.database, key, wait=True)
    for table in ("holdfast.checkpoint", "holdfast.checkpoint_advance", "holdfast.archive"):
        with pytest.raises(asyncpg.PostgresError, match="append-only"):
            await owner.execute(f"TRUNCATE {table} CASCADE")
    for statement in (
        "DELETE FROM holdfast.entry",
        "UPDATE holdfast.entry SET actor = 'eve'",
        "DELETE FROM holdfast.checkpoint_advance",
        "UPDATE holdfast.checkpoint_advance SET seq = 1",
        "DELETE FROM holdfast.checkpoint",
        "UPDATE holdfast.checkpoint SET number = 9",
    ):
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
        path, *others = row["proconfig"]
        assert path == "search_path=pg_catalog, holdfast, pg_temp", row["proname"]
        assert others in ([], ["plan_cache_mode=force_generic_plan"]), row["proname"]
        assert row["owner"] == "holdfast_owner"


async def test_a_function_on_an_open_path_runs_only_inside_one_that_pins_it(owner: asyncpg.Connection) -> None:
    """What a trigger or an administrator starts pins its own path; what entry points call inherits theirs."""
    rows = await owner.fetch(
        "SELECT p.proname, p.prosecdef, p.prorettype = 'trigger'::regtype AS is_trigger, "
        "has_function_privilege('holdfast_app', p.oid, 'EXECUTE') "
        "OR has_function_privilege('holdfast_auditor', p.oid, 'EXECUTE') AS is_granted FROM pg_proc p "
        "WHERE p.pronamespace = 'holdfast'::regnamespace "
        "AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c (setting) WHERE c.setting ^@ 'search_path=')"
    )
    names = {row["proname"] for row in rows}
    assert {"append", "known", "decide_claim", "cancel_open_effects"} < names
    assert not [row["proname"] for row in rows if row["prosecdef"] or row["is_trigger"] or row["is_granted"]]
    assert not names & {"archive_session", "drop_empty_partitions", "make_partitions"}


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
