"""Checkpoints as they are made: by one writer, in order, each over what went on since the one before."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta

import asyncpg
import pytest

from holdfast_ledger.checkpointing import last_checkpoint, make_checkpoint
from holdfast_ledger.checkpoints import Checkpoint, proof_of, root_by_proof, root_of
from holdfast_ledger.errors import BadKey, LedgerError
from holdfast_ledger.export import (
    export_checkpoints,
    export_session,
    read_checkpoints,
)
from holdfast_ledger.signing import SigningKey, TrustedKeys
from holdfast_ledger.store import Ledger
from holdfast_ledger.verify import verify_all, verify_archives, verify_checkpoints, verify_guards
from tests.conftest import Database, with_login
from tests.ledger.checkpoints.story import (
    KEY,
    TRUSTED,
    checkpoint,
    log_of,
    log_verdict,
    opened,
    verdicts,
)
from tests.ledger.conftest import Conversation

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


async def test_an_untouched_ledger_verifies_with_its_checkpoints(untouched: Conversation) -> None:
    found = await verdicts(untouched)

    assert {each.session_id: each.ok for each in found.values()} == {"trip-1": True, "trip-2": True}
    assert all(each.covered == each.entries for each in found.values())
    assert (await log_verdict(untouched, await log_of(untouched))).ok
    assert (await log_verdict(untouched)).entries == 2
    assert (await verify_guards(untouched.ledger.database)).ok


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


async def test_a_checkpoint_names_only_what_went_on_since_the_last(untouched: Conversation) -> None:
    first, second = read_checkpoints(await log_of(untouched))

    assert [each.session_id for each in first[1]] == ["trip-1", "trip-2"]
    assert [each.session_id for each in second[1]] == ["trip-1"]
    assert second[0].prev == first[0].hash
    assert await checkpoint(untouched) is None
    assert await last_checkpoint(untouched.ledger.database) == (2, second[0].hash)


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


@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----"])
def test_what_is_no_key_is_refused_without_being_shown(text: str) -> None:
    for load in (SigningKey.of_pem, TrustedKeys.of_pem):
        with pytest.raises(BadKey) as refused:
            load(text)
        assert "secret" not in str(refused.value)
