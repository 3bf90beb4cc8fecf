"""Checkpoints: what a chain alone cannot show is found and named."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from holdfast.states import EffectState, RecoveryClass
from holdfast_ledger.chain import Verdict, entry_hash
from holdfast_ledger.checkpointing import last_checkpoint, make_checkpoint
from holdfast_ledger.checkpoints import Checkpoint, proof_of, root_by_proof, root_of
from holdfast_ledger.database import named_sql
from holdfast_ledger.errors import BadKey, LedgerError
from holdfast_ledger.export import (
    export_checkpoints,
    export_session,
    parse_entry,
    read_checkpoints,
    verify_export,
)
from holdfast_ledger.guards import weakness_of
from holdfast_ledger.signing import SigningKey, TrustedKeys, new_key
from holdfast_ledger.store import Ledger
from holdfast_ledger.verify import verify_all, verify_archives, verify_checkpoints, verify_guards, verify_session
from tests.conftest import Database, execute, with_database, with_login
from tests.ledger.conftest import Conversation

KEY = SigningKey.of_pem(new_key())
TRUSTED = TrustedKeys.of_pem(KEY.public_pem)
GUARDED = ("entry", "checkpoint", "checkpoint_advance", "archive")

# What was once signed must verify for ever: these values are never changed, only added to.
GOLDEN = Checkpoint(
    number=2,
    version=1,
    at=1782907200000000,
    prev=bytes(range(32)),
    advances=3,
    root=bytes(reversed(range(32))),
    key_id="0123456789abcdef",
    hash=bytes.fromhex("d2e9a3e12e816b20bfb34d0f7db1da422d80ce0d1be83b74b7dc07bb71b637fc"),
    signature=b"",
)


@pytest.fixture
async def told(conversation: Conversation) -> Conversation:
    """Two sessions with a call each, a checkpoint, one more turn of the first, a second checkpoint."""
    other = await opened(conversation, "trip-2")
    for each in (conversation, other):
        call = await each.plan(RecoveryClass.IDEMPOTENT)
        granted = await each.grant(call)
        await each.record(call, granted.token, EffectState.DONE)
    assert await checkpoint(conversation)
    await conversation.take_turn(commit_saga=True)
    assert await checkpoint(conversation)
    return conversation


@pytest.fixture
async def auditor(owner: asyncpg.Connection) -> AsyncIterator[str]:
    """A login that may read what auditors may; its password is `x`."""
    login = f"auditor_{secrets.token_hex(4)}"
    await owner.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'x' IN ROLE holdfast_auditor")
    yield login
    await owner.execute(f"DROP ROLE {login}")


async def opened(conversation: Conversation, session_id: str) -> Conversation:
    """One more session, without a turn."""
    other = Conversation(ledger=conversation.ledger, owner=conversation.owner, session_id=session_id)
    await other.open()
    return other


async def checkpoint(conversation: Conversation, key: SigningKey = KEY) -> Checkpoint | None:
    return await make_checkpoint(conversation.ledger.database, key, wait=True)


async def log_of(conversation: Conversation) -> list[str]:
    return [line async for line in export_checkpoints(conversation.ledger.database)]


async def verdicts(conversation: Conversation, **options: int) -> dict[str, Verdict]:
    return {each.session_id: each async for each in verify_all(conversation.ledger.database, **options)}


async def log_verdict(conversation: Conversation, held: list[str] | None = None) -> Verdict:
    kept = [each for each, _ in read_checkpoints(held)] if held else []
    return await verify_checkpoints(conversation.ledger.database, TRUSTED, held=kept)


async def tamper(conversation: Conversation, *statements: str) -> None:
    """As a superuser who first switches every guard off."""
    for table in GUARDED:
        await conversation.owner.execute(f"ALTER TABLE holdfast.{table} DISABLE TRIGGER ALL")
    await conversation.owner.execute("SET session_replication_role = replica")
    for statement in statements:
        await conversation.owner.execute(statement)
    await conversation.owner.execute("RESET session_replication_role")


def rewrite(where: str, change: str) -> tuple[str, ...]:
    """A session's entries changed, and every hash after it made to fit, head and all."""
    return (
        f"UPDATE holdfast.entry SET {change} WHERE {where}",
        """DO $$ DECLARE e holdfast.entry; before bytea; BEGIN
            FOR e IN SELECT o.* FROM holdfast.entry o JOIN holdfast.session s USING (session_key)
                WHERE s.id = 'trip-1' ORDER BY o.seq LOOP
                IF e.seq > 1 THEN e.prev := before; END IF;
                before := holdfast.entry_hash(e);
                UPDATE holdfast.entry SET prev = e.prev, hash = before
                WHERE session_key = e.session_key AND seq = e.seq;
                UPDATE holdfast.chain SET head = before, seq = e.seq WHERE session_key = e.session_key;
            END LOOP; END $$""",
    )


async def test_an_untouched_ledger_verifies_with_its_checkpoints(told: Conversation) -> None:
    found = await verdicts(told)

    assert {each.session_id: each.ok for each in found.values()} == {"trip-1": True, "trip-2": True}
    assert all(each.covered == each.entries for each in found.values())
    assert (await log_verdict(told, await log_of(told))).ok
    assert (await log_verdict(told)).entries == 2
    assert (await verify_guards(told.ledger.database)).ok


async def test_an_auditor_verifies_all_of_it_with_a_login_of_its_own(
    told: Conversation, database: Database, auditor: str
) -> None:
    ledger = await Ledger.connect(with_login(database.dsn, auditor, "x"))
    try:
        opened = ledger.database
        assert all([each.ok async for each in verify_all(opened)])
        checks = [
            await verify_guards(opened),
            await verify_archives(opened),
            await verify_checkpoints(opened, TRUSTED),
        ]
        assert all(each.ok for each in checks)
        assert len([line async for line in export_session(opened, "trip-1")]) > 5
        assert len([line async for line in export_checkpoints(opened)]) == 3
        with pytest.raises(LedgerError, match="permission denied"):
            await make_checkpoint(opened, KEY, wait=True)
    finally:
        await ledger.close()


async def test_a_checkpoint_names_only_what_went_on_since_the_last(told: Conversation) -> None:
    first, second = read_checkpoints(await log_of(told))

    assert [each.session_id for each in first[1]] == ["trip-1", "trip-2"]
    assert [each.session_id for each in second[1]] == ["trip-1"]
    assert second[0].prev == first[0].hash
    assert await checkpoint(told) is None
    assert await last_checkpoint(told.ledger.database) == (2, second[0].hash)


async def test_a_golden_checkpoint_hashes_alike_in_python_and_in_postgres(owner: asyncpg.Connection) -> None:
    assert hashlib.sha256(GOLDEN.statement).digest() == GOLDEN.hash
    row = await owner.fetchval(
        "SELECT holdfast.checkpoint_hash("
        "$1, to_timestamp(0) + $2::bigint * interval '1 microsecond', $3, $4, $5, $6)",
        *(GOLDEN.number, GOLDEN.at, GOLDEN.prev, GOLDEN.advances, GOLDEN.root, GOLDEN.key_id),
    )
    assert row == GOLDEN.hash


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8, 13])
def test_every_place_of_a_tree_is_proved_and_no_other(size: int) -> None:
    leaves = [bytes([number + 1]) * 32 for number in range(size)]
    root = root_of(leaves)
    for index in range(size):
        proof = proof_of(leaves, index)
        assert root_by_proof(leaves[index], index, size, proof) == root
        assert root_by_proof(bytes(32), index, size, proof) != root
        assert root_by_proof(leaves[index], index, size, [*proof, bytes(32)]) is None
        if proof:
            assert root_by_proof(leaves[index], index, size, proof[:-1]) != root
    assert root_by_proof(leaves[0], size, size, ()) is None


async def test_two_writers_at_once_make_one_log(told: Conversation) -> None:
    for number in range(4):
        await opened(told, f"more-{number}")

    made = await asyncio.gather(*(checkpoint(told) for _ in range(3)))

    assert [each.number for each in made if each] == [3]
    assert (await log_verdict(told)).ok


async def test_within_the_interval_no_second_checkpoint_is_made(told: Conversation) -> None:
    await opened(told, "trip-3")
    database = told.ledger.database
    assert await make_checkpoint(database, KEY, wait=False, interval=timedelta(hours=1)) is None
    assert await make_checkpoint(database, KEY, wait=False, interval=timedelta(0))


async def test_the_database_refuses_a_checkpoint_that_does_not_follow(told: Conversation) -> None:
    last, over = read_checkpoints(await log_of(told))[1]
    fields = (last.number, last.prev, last.root, last.key_id, last.hash, last.signature)
    statement = "SELECT holdfast.append_checkpoint($1, clock_timestamp(), $2, $3, $4, $5, $6, $7, $8, $9, $10)"
    lists = (
        [each.session_id for each in over],
        [each.session_key for each in over],
        [each.seq for each in over],
        [each.head for each in over],
    )
    with pytest.raises(asyncpg.PostgresError, match="does not follow"):
        await told.owner.execute(statement, *fields, *lists)
    with pytest.raises(asyncpg.PostgresError, match="another hash"):
        await told.owner.execute(statement, 3, last.hash, *fields[2:], *lists)


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


async def test_an_export_carries_the_checkpoints_that_vouch_for_it(told: Conversation) -> None:
    lines = [line async for line in export_session(told.ledger.database, "trip-1")]
    verdict = verify_export(lines, TRUSTED)

    assert verdict == (await verdicts(told))["trip-1"]
    assert verdict.covered == verdict.entries
    assert "trip-2" not in "".join(lines)
    stranger = TrustedKeys.of_pem(new_key())
    assert "which is none of those trusted" in str(verify_export(lines, stranger).problem)


def rehashed(lines: list[str], change: str) -> list[str]:
    """An export whose entry 3 says something else, with every hash made to fit."""
    header, *rest = map(json.loads, lines)
    entries = [line for line in rest if "checkpoint" not in line]
    entries[2]["actor"] = change
    for number, line in enumerate(entries):
        if number:
            line["prev"] = entries[number - 1]["hash"]
        line["hash"] = entry_hash(parse_entry(dict(line))).hex()
    header["head"] = entries[-1]["hash"]
    return [json.dumps(line) for line in (header, *entries, *rest[len(entries) :])]


async def test_an_export_rewritten_with_all_its_hashes_is_found(told: Conversation) -> None:
    lines = [line async for line in export_session(told.ledger.database, "trip-1")]
    kept = read_checkpoints(await log_of(told))
    forged = rehashed(lines, "eve")

    assert "is not the one a checkpoint knows" in str(verify_export(forged, TRUSTED).problem)
    bare = [line for line in forged if not line.startswith('{"checkpoint"')]
    assert verify_export(bare, TRUSTED).ok  # nothing in it says otherwise; what was kept does
    assert "is not the one a checkpoint knows" in str(verify_export(bare, TRUSTED, held=kept).problem)


async def test_a_proof_of_another_place_is_found(told: Conversation) -> None:
    lines = [line async for line in export_session(told.ledger.database, "trip-1")]
    *before, last = lines
    for change in ({"index": 1}, {"proof": ["00" * 32]}):
        problem = verify_export([*before, json.dumps(json.loads(last) | change)], TRUSTED).problem
        assert "does not say that entry" in str(problem), change


async def test_an_edited_export_of_checkpoints_is_found(told: Conversation) -> None:
    lines = await log_of(told)
    assert verify_export(lines, TRUSTED).ok
    swapped = [lines[0], lines[2], lines[1]]
    assert verify_export(swapped, TRUSTED).problem == "checkpoint 1 is missing"
    assert "made over other sessions" in str(verify_export([*lines[:2], lines[2].replace("trip-1", "x")]).problem)


@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----"])
def test_what_is_no_key_is_refused_without_being_shown(text: str) -> None:
    for load in (SigningKey.of_pem, TrustedKeys.of_pem):
        with pytest.raises(BadKey) as refused:
            load(text)
        assert "secret" not in str(refused.value)
