"""The views that auditors read: their names, every column documented, and the one join that gives a run's trail."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from holdfast.facts import Kind
from holdfast.states import EffectState, RecoveryClass
from holdfast_ledger import places
from holdfast_ledger.errors import ContentAltered
from holdfast_ledger.master_keys import MasterKeys
from holdfast_ledger.records import Undo
from holdfast_ledger.store import Ledger
from tests.conftest import Database
from tests.ledger.conftest import START, Conversation

DOCUMENT = (Path(__file__).parents[2] / "docs" / "audit-views.md").read_text()
PROMISED = {"run", "step", "tool_call", "tool_result", "authz_decision", "compensation_action", "session_timeline"}
TRAIL = (
    *("run_id", "step_num", "call_id", "tool_name", "args_hash", "allowed", "reason"),
    *("latency_ms", "action", "executed", "created_at"),
)
JOIN = re.search(r"```sql\n(.+?)```", DOCUMENT, re.DOTALL)


def documented() -> dict[str, list[str]]:
    """The columns of each view, in the document's order."""
    sections = re.split(r"^## audit\.", DOCUMENT, flags=re.MULTILINE)[1:]
    return {
        section.partition("\n")[0]: re.findall(r"^\| `(\w+)` \| \S", section, re.MULTILINE) for section in sections
    }


async def test_every_column_of_every_view_is_documented_in_its_order(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'audit' "
        "ORDER BY table_name, ordinal_position"
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["table_name"], []).append(row["column_name"])

    assert found.keys() >= PROMISED
    assert documented() == found


async def test_one_join_gives_the_trail_of_a_run(conversation: Conversation) -> None:
    call = await conversation.plan(RecoveryClass.IDEMPOTENT)
    decided = conversation.fact(
        Kind.CALL_DECIDED,
        "call/1/decided",
        turn=1,
        call=call.call,
        tool="refund",
        outcome="allow",
        actor="policy",
        body={"rule": "small amounts", "digest": call.digest},
    )
    first = await conversation.grant(call, outbox=(decided,))
    await conversation.record(call, first.token, EffectState.OPEN)
    second = await conversation.grant(call)
    await conversation.record(
        call,
        second.token,
        EffectState.DONE,
        undo=Undo(tool="charge", version="1", args=b"{}"),
    )

    assert JOIN is not None
    rows = await conversation.owner.fetch(JOIN[1])

    assert tuple(rows[0].keys()) == TRAIL
    assert {tuple(row)[:5] for row in rows} == {("trip-1", 1, call.call, "refund", call.digest)}
    assert {row["action"] for row in rows} == {"charge"}
    assert {(row["allowed"], row["reason"]) for row in rows} == {(True, "small amounts"), (True, "tier")}
    assert {row["executed"] for row in rows} == {False, True}
    assert all(row["latency_ms"] == 20 and row["created_at"] for row in rows)
    told = await conversation.owner.fetchval("SELECT count(*) FROM audit.session_timeline WHERE run_id = 'trip-1'")
    assert told == len(await conversation.entries())


RESULT = {"status": "ok", "text": "Zanzibar", "code": "none", "size": 9, "digest": "d" * 64}
BY_A_PERSON = {"verdict": "allow", "rule": "tier:irreversible", "policy_version": 3, "approver": "ben"}


async def approved_and_done(conversation: Conversation) -> None:
    """A call that policy asked about, a person allowed, and that was done."""
    call = await conversation.plan()
    body = {"digest": call.digest, "rule": "tier:irreversible", "policy_version": 3, "reason": "Zanzibar"}
    decision = {**body, "decision": "d1", "authenticated": True}
    facts = (
        conversation.fact(Kind.APPROVAL_ASKED, "asked", call=call.call, body=body),
        conversation.fact(
            Kind.APPROVAL_DECIDED, "decided", call=call.call, outcome="approved", actor="ben", body=decision
        ),
    )
    await conversation.ledger.append(conversation.session_id, facts)
    authorization = {**BY_A_PERSON, "authenticated": True, "reason": "Zanzibar"}
    granted = await conversation.grant(
        call, decision="d1", authorization=authorization, use_within=datetime.now(UTC) - START + timedelta(days=1)
    )
    await conversation.record(call, granted.token, EffectState.DONE, outcome=RESULT)


async def test_who_allowed_what_by_which_rule_is_read_without_a_key_and_what_was_said_is_not(
    database: Database, conversation: Conversation, owner: asyncpg.Connection
) -> None:
    keys = MasterKeys(newest="2026", keys={"2026": b"k" * 32})
    ledger = await Ledger.connect(database.dsn, keys=keys)
    sealed = Conversation(ledger=ledger, owner=owner, session_id="trip-2")
    await sealed.open()
    decided, results = {}, {}
    for each in (conversation, sealed):
        await approved_and_done(each)
        decided[each.session_id] = [
            tuple(row)
            for row in await owner.fetch(
                "SELECT stage, action, allowed, decided_by, authenticated, rule, policy_version "
                "FROM audit.authz_decision WHERE run_id = $1 ORDER BY created_at",
                each.session_id,
            )
        ]
        [results[each.session_id]] = await owner.fetch(
            "SELECT reason, result_hash, result_bytes FROM audit.tool_result WHERE run_id = $1", each.session_id
        )
    reasons = await owner.fetch("SELECT DISTINCT reason FROM audit.authz_decision WHERE run_id = 'trip-2'")
    bodies = [entry.body for entry in await ledger.reader.timeline("trip-2")]
    await ledger.close()

    assert decided["trip-2"] == decided["trip-1"]
    assert ("person", "approved", True, "ben", True, "tier:irreversible", 3) in decided["trip-2"]
    assert ("dispatch", "allow", True, "ben", True, "tier:irreversible", 3) in decided["trip-2"]
    assert {row["reason"] for row in reasons} == {"tier:irreversible"}
    plain, keyed = results["trip-1"], results["trip-2"]
    assert (plain["reason"], plain["result_hash"], plain["result_bytes"]) == ("none", "d" * 64, 9)
    assert (keyed["reason"], keyed["result_bytes"], len(keyed["result_hash"])) == ("none", 9, 64)
    assert keyed["result_hash"] != plain["result_hash"]  # a short result could be guessed from its bare digest
    assert None not in bodies  # with the key all of it is read


async def test_the_open_part_of_a_sealed_entry_is_bound_to_it(
    database: Database, owner: asyncpg.Connection
) -> None:
    keys = MasterKeys(newest="2026", keys={"2026": b"k" * 32})
    ledger = await Ledger.connect(database.dsn, keys=keys)
    sealed = Conversation(ledger=ledger, owner=owner, session_id="trip-2")
    await sealed.open()
    await approved_and_done(sealed)
    seal = await ledger.vault.of("trip-2")
    await ledger.close()
    [entry] = await sealed.entries(Kind.APPROVAL_DECIDED)
    place, body = places.entry(entry["fact_key"]), entry["body"]

    assert b'"authenticated":true' in body
    assert b"Zanzibar" in seal.open(place, body)
    with pytest.raises(ContentAltered):
        seal.open(place, body.replace(b'"authenticated":true', b'"authenticated":null'))
