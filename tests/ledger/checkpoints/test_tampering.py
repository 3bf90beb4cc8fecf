"""What a chain alone cannot show is found by checkpoints and named, and so is a guard that is off."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import asyncpg

from holdfast_ledger.database import named_sql
from holdfast_ledger.guards import weakness_of
from holdfast_ledger.signing import SigningKey, TrustedKeys, new_key
from holdfast_ledger.store import Ledger
from holdfast_ledger.verify import verify_checkpoints, verify_guards, verify_session
from tests.conftest import Database, execute, with_database
from tests.ledger.checkpoints.story import (
    KEY,
    TRUSTED,
    checkpoint,
    log_of,
    log_verdict,
    opened,
    rewrite,
    tamper,
    verdicts,
)
from tests.ledger.conftest import Conversation


async def test_a_chain_written_anew_head_and_all_is_found(told: Conversation) -> None:
    await tamper(told, *rewrite("seq = 3", "actor = 'eve'"))

    found = (await verdicts(told))["trip-1"]

    assert found.bad_seq == found.entries > 3
    assert "is not the one a checkpoint knows" in str(found.problem)


async def test_a_tail_cut_off_head_and_all_is_found(told: Conversation) -> None:
    last = len(await told.entries())
    await tamper(
        told,
        f"DELETE FROM holdfast.entry e USING holdfast.session s "
        f"WHERE s.session_key = e.session_key AND s.id = 'trip-1' AND seq = {last}",
        *rewrite("false", "actor = actor"),
    )

    found = (await verdicts(told))["trip-1"]

    assert found.bad_seq == last
    assert f"a checkpoint knows {last} entries" in str(found.problem)


async def drop_session(conversation: Conversation, session_id: str) -> None:
    key = f"(SELECT session_key FROM holdfast.session WHERE id = '{session_id}')"
    tables = ("entry", "chain", "turn", "effect", "saga", "message", "content", "approval", "session")
    await tamper(conversation, *(f"DELETE FROM holdfast.{table} WHERE session_key = {key}" for table in tables))


async def test_a_whole_session_dropped_is_found(told: Conversation) -> None:
    await drop_session(told, "trip-2")

    found = await verdicts(told)
    assert found["trip-1"].ok
    assert "the session is gone: checkpoint 1 knows" in str(found["trip-2"].problem)
    assert "is gone" in str((await verify_session(told.ledger.database, "trip-2")).problem)


async def test_an_older_database_put_back_is_found_by_a_checkpoint_that_was_kept(
    told: Conversation, database: Database
) -> None:
    name = urlsplit(database.dsn).path[1:]
    await told.owner.close()
    await told.ledger.close()
    await execute(with_database(database.owner_dsn, "postgres"), f"CREATE DATABASE {name}_older TEMPLATE {name}")
    try:
        told.ledger = await Ledger.connect(database.dsn)
        await opened(told, "trip-3")
        assert await checkpoint(told)
        kept = await log_of(told)
        assert (await log_verdict(told, kept)).ok
        await told.ledger.close()

        told.ledger = await Ledger.connect(with_database(database.dsn, f"{name}_older"))
        assert all(each.ok for each in (await verdicts(told)).values())  # alone it looks whole
        found = await log_verdict(told, kept)
        assert (found.bad_seq, "put back" in str(found.problem)) == (3, True)
        remembered = await verify_checkpoints(told.ledger.database, TRUSTED, at_least=3)
        assert "the log ends at 2" in str(remembered.problem)

        await opened(told, "trip-4")
        assert await checkpoint(told)
        found = await log_verdict(told, kept)
        assert (found.bad_seq, "is not the one that is held" in str(found.problem)) == (3, True)
        await told.ledger.close()
    finally:
        await execute(database.owner_dsn, f"DROP DATABASE {name}_older WITH (FORCE)")


async def test_an_old_checkpoint_replayed_is_found(told: Conversation) -> None:
    await tamper(
        told,
        "INSERT INTO holdfast.checkpoint SELECT 3, version, at, prev, advances, root, key_id, hash, signature "
        "FROM holdfast.checkpoint WHERE number = 1",
    )

    found = await log_verdict(told)

    assert (found.bad_seq, found.problem) == (3, "checkpoint 3 is checkpoint 1 again")


async def test_the_end_of_the_log_removed_is_found_by_what_was_kept(told: Conversation) -> None:
    kept = await log_of(told)
    await tamper(
        told,
        "DELETE FROM holdfast.checkpoint_advance WHERE number = 2",
        "DELETE FROM holdfast.checkpoint WHERE number = 2",
    )

    assert (await log_verdict(told)).ok
    found = await log_verdict(told, kept)
    assert (found.bad_seq, "the log ends at 1" in str(found.problem)) == (2, True)


async def test_another_key_is_found(told: Conversation) -> None:
    await opened(told, "trip-3")
    stranger = SigningKey.of_pem(new_key())
    await checkpoint(told, stranger)

    found = await log_verdict(told)
    assert found.bad_seq == 3
    assert f"is signed with key {stranger.key_id}" in str(found.problem)
    both = TrustedKeys.of_pem(KEY.public_pem + stranger.public_pem)
    assert (await verify_checkpoints(told.ledger.database, both)).ok

    await tamper(told, f"UPDATE holdfast.checkpoint SET key_id = '{KEY.key_id}' WHERE number = 3")
    assert "was changed" in str((await log_verdict(told)).problem)
    await tamper(
        told,
        "UPDATE holdfast.checkpoint SET hash = holdfast.checkpoint_hash(number, at, prev, advances, root, key_id) "
        "WHERE number = 3",
    )
    assert f"a signature that key {KEY.key_id} did not make" in str((await log_verdict(told)).problem)


CHANGES = {
    "at": "at + interval '1 second'",
    "prev": "sha256('x')",
    "advances": "advances + 1",
    "root": "sha256('x')",
    "key_id": "'x'",
    "hash": "sha256('x')",
    "signature": "set_byte(signature, 0, get_byte(signature, 0) # 1)",
    "version": "2",
}


async def test_a_change_of_any_column_of_a_checkpoint_is_found(told: Conversation) -> None:
    await told.owner.execute("CREATE TEMPORARY TABLE kept AS SELECT * FROM holdfast.checkpoint WHERE number = 2")
    columns = await told.owner.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'kept'::regclass AND attnum > 0"
    )
    assert {row["attname"] for row in columns} == {*CHANGES, "number"}
    for column, value in CHANGES.items():
        await tamper(told, f"UPDATE holdfast.checkpoint SET {column} = {value} WHERE number = 2")
        found = await log_verdict(told)
        assert found.bad_seq == 2, column
        await tamper(told, f"UPDATE holdfast.checkpoint c SET {column} = k.{column} FROM kept k WHERE c.number = 2")
    assert (await log_verdict(told)).ok


ADVANCES = ("session_id = 'other'", "seq = seq - 1", "head = sha256('x')", "session_key = uuidv7()")


async def test_a_changed_advance_is_found(told: Conversation) -> None:
    await told.owner.execute("CREATE TEMPORARY TABLE kept AS SELECT * FROM holdfast.checkpoint_advance")
    for change in ADVANCES:
        await tamper(told, f"UPDATE holdfast.checkpoint_advance SET {change} WHERE session_id = 'trip-2'")
        found = await log_verdict(told)
        assert (found.bad_seq, "made over other sessions" in str(found.problem)) == (1, True), change
        await tamper(
            told,
            "DELETE FROM holdfast.checkpoint_advance",
            "INSERT INTO holdfast.checkpoint_advance SELECT * FROM kept",
        )
    assert (await log_verdict(told)).ok


async def test_since_a_checkpoint_only_what_is_later_is_read_and_the_rest_must_stand(
    told: Conversation,
) -> None:
    whole = await verdicts(told)
    later = await verdicts(told, since=1)
    assert later["trip-2"].entries == 1
    assert 1 < later["trip-1"].entries < whole["trip-1"].entries
    assert all(each.ok for each in later.values())

    await tamper(told, *rewrite("seq = 3", "actor = 'eve'"))
    found = (await verdicts(told, since=1))["trip-1"]
    assert "is not the one a checkpoint knows" in str(found.problem)


WEAKENED = {
    "ALTER TABLE holdfast.entry DISABLE TRIGGER entries_stay": "`holdfast.entry` that refuses UPDATE",
    "ALTER TABLE holdfast.entry_rest DISABLE TRIGGER entries_stay": "`holdfast.entry_rest` that refuses UPDATE",
    "ALTER TABLE holdfast.entry ENABLE TRIGGER entries_stay": "`holdfast.entry` that refuses UPDATE",
    "ALTER TABLE holdfast.entry DISABLE TRIGGER entries_are_not_truncated": "refuses TRUNCATE is gone",
    "DROP TRIGGER rows_stay ON holdfast.checkpoint": "`holdfast.checkpoint` that refuses UPDATE",
    "CREATE OR REPLACE FUNCTION holdfast.refuse_change() RETURNS trigger LANGUAGE plpgsql "
    "AS $$ BEGIN RETURN OLD; END $$": "the function `holdfast.refuse_change()` was replaced",
    "GRANT UPDATE ON holdfast.entry TO holdfast_app": "`holdfast_app` may UPDATE: `holdfast.entry`",
    "GRANT UPDATE (actor) ON holdfast.entry TO holdfast_app": "`holdfast_app` may UPDATE: `holdfast.entry`",
    "GRANT holdfast_owner TO holdfast_app WITH INHERIT FALSE": "may SET ROLE: `holdfast_owner`",
    "GRANT DELETE ON holdfast.chain TO holdfast_auditor": "`holdfast_auditor` may DELETE: `holdfast.chain`",
}


async def test_a_disabled_trigger_a_replaced_function_and_a_grant_are_found(told: Conversation) -> None:
    async def rows(name: str, *arguments: Any) -> list[asyncpg.Record]:
        return await told.owner.fetch(named_sql()[name], *arguments)

    for statement, expected in WEAKENED.items():
        transaction = told.owner.transaction()
        await transaction.start()
        await told.owner.execute(statement)
        problem, _ = await weakness_of(rows)
        await transaction.rollback()
        assert expected in str(problem), statement
    await tamper(told)
    assert "refuses UPDATE and DELETE is gone" in str((await verify_guards(told.ledger.database)).problem)
