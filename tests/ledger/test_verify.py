"""The chain: golden vectors, and whatever is done to the record afterwards is found and named."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from holdfast.states import EffectState, RecoveryClass
from holdfast_ledger.chain import ChainEntry, Verdict, chain_start, entry_hash
from holdfast_ledger.errors import BadExport, SessionMissing
from holdfast_ledger.export import export_session, verify_export
from holdfast_ledger.verify import verify_all, verify_session
from tests.ledger.conftest import Conversation

KEY = "0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee"

# Bytes that were once written must verify for ever: these values are never changed, only added to.
GOLDEN_START = "f6132e44d8ec2415300c17f8ed6f22583bd774974692366de8ae28cac982c6aa"
GOLDEN = [
    (
        ChainEntry(
            seq=1,
            version=1,
            fact_key="@opened",
            fact_digest=bytes(32),
            kind="session_opened",
            at=1782907200000000,
            recorded_at=1782907200000001,
            turn=None,
            call=None,
            effect_id=None,
            token=None,
            saga_id=None,
            tool=None,
            tier=None,
            outcome=None,
            actor="ana",
            args_digest=None,
            latency_us=None,
            key_id=None,
            body=b"{}",
            prev=bytes.fromhex(GOLDEN_START),
            hash=b"",
        ),
        "3cb45b8ec512184dce798c5d39034a9acaabe57cb50709823ae2c00c6b4d66f6",
    ),
    (
        ChainEntry(
            seq=2,
            version=1,
            fact_key="fact é",
            fact_digest=bytes(range(32)),
            kind="effect_outcome",
            at=-1,
            recorded_at=0,
            turn=3,
            call="3.1",
            effect_id="e" * 64,
            token=2,
            saga_id="trip/request-1",
            tool="refund",
            tier="irreversible",
            outcome="",
            actor="bo",
            args_digest="a" * 64,
            latency_us=1500,
            key_id="key-1",
            body=b"\x00\xff",
            prev=bytes(range(32)),
            hash=b"",
        ),
        "23f3161bc7324b6ddd748c1e8aa62b652cabede15a37c96b81efa12e7eb483cf",
    ),
]


@pytest.fixture
async def told(conversation: Conversation) -> Conversation:
    """A session with a turn and a call that is done: nine entries or so."""
    call = await conversation.plan(RecoveryClass.IDEMPOTENT)
    granted = await conversation.grant(call)
    await conversation.record(call, granted.token, EffectState.DONE)
    await conversation.take_turn(commit_saga=True)
    return conversation


async def verdict(conversation: Conversation) -> Verdict:
    return await verify_session(conversation.ledger.database, conversation.session_id)


async def export(conversation: Conversation) -> list[str]:
    return [line async for line in export_session(conversation.ledger.database, conversation.session_id)]


async def tamper(conversation: Conversation, statement: str) -> None:
    """As a superuser who first switches the guards off."""
    await conversation.owner.execute("ALTER TABLE holdfast.entry DISABLE TRIGGER ALL")
    await conversation.owner.execute(statement)


@asynccontextmanager
async def undone(conversation: Conversation) -> AsyncIterator[None]:
    """Put the entries back as they were."""
    await conversation.owner.execute("CREATE TEMPORARY TABLE kept AS SELECT * FROM holdfast.entry")
    yield
    await conversation.owner.execute(
        "DELETE FROM holdfast.entry; INSERT INTO holdfast.entry SELECT * FROM kept; DROP TABLE kept"
    )


@pytest.mark.parametrize(("entry", "expected"), GOLDEN)
async def test_golden_vectors_hold_in_python_and_in_postgres(
    owner: asyncpg.Connection, entry: ChainEntry, expected: str
) -> None:
    assert entry_hash(entry).hex() == expected
    row = await owner.fetchval(
        "SELECT holdfast.entry_hash(ROW($1::uuid, $2::bigint, $3::smallint, $4, $5, $6, "
        "to_timestamp(0) + $7::bigint * interval '1 microsecond', "
        "to_timestamp(0) + $8::bigint * interval '1 microsecond', "
        "$9::integer, $10, $11, $12::integer, $13, $14, $15, $16, $17, $18, $19::bigint, "
        "$20, $21, $22, $23)::holdfast.entry)",
        KEY,
        *(getattr(entry, name) for name in ChainEntry._fields),
    )
    assert row.hex() == expected


async def test_the_start_of_a_chain_binds_it_to_its_session(owner: asyncpg.Connection) -> None:
    assert chain_start("trip-é", KEY).hex() == GOLDEN_START
    assert (await owner.fetchval("SELECT holdfast.chain_start('trip-é', $1)", KEY)).hex() == GOLDEN_START


async def test_an_untouched_record_verifies(told: Conversation) -> None:
    whole = await verdict(told)
    assert whole.ok
    assert whole.entries == len(await told.entries()) > 5
    assert (await told.ledger.database.one("chains", told.session_id, None, 1, 0))["seq"] == whole.entries


CHANGES = {
    "body": "set_byte(body, 3, get_byte(body, 3) # 1)",
    "at": "at + interval '1 microsecond'",
    "recorded_at": "recorded_at - interval '1 microsecond'",
    "kind": "'session_status'",
    "actor": "'eve'",
    "outcome": "''",
    "tool": "NULL",
    "tier": "'read'",
    "turn": "coalesce(turn, 0) + 1",
    "call": "'9.9'",
    "effect_id": "'e'",
    "token": "9",
    "saga_id": "NULL",
    "fact_key": "fact_key || '.'",
    "fact_digest": "sha256('x')",
    "key_id": "'k'",
    "prev": "sha256('x')",
    "hash": "sha256('x')",
    "latency_us": "coalesce(latency_us, 0) + 1",
    "args_digest": "'x'",
}


async def test_a_change_of_any_column_is_found(told: Conversation) -> None:
    seq = [entry["kind"] for entry in await told.entries()].index("effect_intent") + 1
    assert {*CHANGES, "session_key", "seq", "version"} == set((await told.entries())[0].keys())
    for column, value in CHANGES.items():
        async with undone(told):
            await tamper(told, f"UPDATE holdfast.entry SET {column} = {value} WHERE seq = {seq}")
            found = await verdict(told)
        assert found.bad_seq == seq, column
        assert f"entry {seq} was changed" in str(found.problem), column
    assert (await verdict(told)).ok


async def test_a_deleted_row_is_found(told: Conversation) -> None:
    await tamper(told, "DELETE FROM holdfast.entry WHERE seq = 3")
    found = await verdict(told)
    assert (found.bad_seq, found.problem) == (3, "entry 3 is missing")


async def test_swapped_rows_are_found(told: Conversation) -> None:
    await tamper(told, "UPDATE holdfast.entry SET seq = -seq WHERE seq IN (3, 4)")
    await tamper(told, "UPDATE holdfast.entry SET seq = 7 + seq WHERE seq < 0")
    found = await verdict(told)
    assert found.bad_seq == 3
    assert "entry 3 was changed" in str(found.problem)


async def test_a_cut_tail_is_found(told: Conversation) -> None:
    last = len(await told.entries())
    await tamper(told, f"DELETE FROM holdfast.entry WHERE seq = {last}")
    found = await verdict(told)
    assert found.bad_seq == last
    assert "missing" in str(found.problem)


async def test_an_entry_rewritten_with_its_hash_is_found_by_the_one_after_it(told: Conversation) -> None:
    await tamper(told, "UPDATE holdfast.entry SET actor = 'eve' WHERE seq = 3")
    await tamper(told, "UPDATE holdfast.entry e SET hash = holdfast.entry_hash(e) WHERE seq = 3")
    found = await verdict(told)
    assert found.bad_seq == 4
    assert "one of the two was replaced" in str(found.problem)


async def test_a_rewritten_last_entry_is_found_by_the_chains_head(told: Conversation) -> None:
    last = len(await told.entries())
    await tamper(told, f"UPDATE holdfast.entry SET actor = 'eve' WHERE seq = {last}")
    await tamper(told, f"UPDATE holdfast.entry e SET hash = holdfast.entry_hash(e) WHERE seq = {last}")
    found = await verdict(told)
    assert found.bad_seq == last
    assert "not the one the chain ends with" in str(found.problem)


async def test_an_added_entry_is_found(told: Conversation) -> None:
    last = len(await told.entries())
    await tamper(
        told,
        "INSERT INTO holdfast.entry "
        "SELECT session_key, seq + 1, version, 'added', fact_digest, kind, at, recorded_at, "
        "turn, call, effect_id, token, saga_id, tool, tier, outcome, actor, args_digest, latency_us, key_id, body, "
        f"hash, hash FROM holdfast.entry WHERE seq = {last}",
    )
    await tamper(told, f"UPDATE holdfast.entry e SET hash = holdfast.entry_hash(e) WHERE seq = {last + 1}")
    found = await verdict(told)
    assert found.bad_seq == last + 1
    assert "never written by the ledger" in str(found.problem)


async def test_a_chain_moved_to_another_session_is_found(told: Conversation) -> None:
    await tamper(told, "UPDATE holdfast.session SET id = 'other'")
    told.session_id = "other"
    assert (await verdict(told)).bad_seq == 1


async def test_all_sessions_are_verified_and_the_bad_one_is_named(told: Conversation) -> None:
    for number in range(5):
        await Conversation(ledger=told.ledger, owner=told.owner, session_id=f"more-{number}").open()
    await tamper(
        told,
        "UPDATE holdfast.entry e SET actor = 'eve' FROM holdfast.session s "
        "WHERE s.session_key = e.session_key AND s.id = 'more-3'",
    )

    verdicts = [each async for each in verify_all(told.ledger.database)]

    assert len(verdicts) == 6
    assert [each.session_id for each in verdicts if not each.ok] == ["more-3"]


async def test_a_session_that_is_not_there_is_no_proof(told: Conversation) -> None:
    with pytest.raises(SessionMissing):
        await verify_session(told.ledger.database, "nobody")
    with pytest.raises(SessionMissing):
        [line async for line in export_session(told.ledger.database, "nobody")]


async def test_an_export_verifies_without_a_database(told: Conversation) -> None:
    lines = await export(told)

    assert verify_export(lines) == await verdict(told)
    assert json.loads(lines[0])["session_id"] == told.session_id
    assert {"seq", "kind", "at", "body", "hash"} <= json.loads(lines[1]).keys()


def _edited(change: Callable[[dict[str, Any]], object]) -> Callable[[list[str]], list[str]]:
    def edit(lines: list[str]) -> list[str]:
        line = json.loads(lines[3])
        change(line)
        return [*lines[:3], json.dumps(line), *lines[4:]]

    return edit


EDITS: list[tuple[Callable[[list[str]], list[str]], int]] = [
    (_edited(lambda line: line.update(body=line["body"].replace(":", ";", 1))), 3),
    (_edited(lambda line: line.update(at="2026-07-01T12:00:00.000001+00:00")), 3),
    (_edited(lambda line: line.update(actor="eve")), 3),
    (_edited(lambda line: line.update(effect_id="x")), 3),
    (lambda lines: [*lines[:3], *lines[4:]], 3),
    (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], 3),
    (lambda lines: [*lines[:4], lines[3], *lines[4:]], 3),
    (lambda lines: lines[:4], 4),
    (lambda lines: [lines[0].replace("trip-1", "trip-2"), *lines[1:]], 1),
]


async def test_an_edited_export_is_found(told: Conversation) -> None:
    lines = await export(told)
    for number, (edit, bad_seq) in enumerate(EDITS):
        assert verify_export(edit(lines)).bad_seq == bad_seq, number


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "Line 1"),
        (["hello"], "Line 1 is not JSON"),
        (["[]"], "Line 1 is not a JSON object"),
        (['{"format": "other"}'], "not the header"),
        (['{"format": "holdfast.ledger/1"}'], "Line 1"),
    ],
)
async def test_what_is_no_export_is_named_by_line(lines: list[str], said: str) -> None:
    with pytest.raises(BadExport, match=said):
        verify_export(lines)


async def test_a_broken_line_of_an_export_is_named(told: Conversation) -> None:
    lines = await export(told)
    for broken in ("{", "{}", '{"at": 1}'):
        with pytest.raises(BadExport, match="Line 3"):
            verify_export([*lines[:2], broken, *lines[3:]])
