"""The views that auditors read: their names, every column documented, and the one join that gives a run's trail."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg

from holdfast.facts import Kind
from holdfast.states import EffectState, RecoveryClass
from holdfast_ledger.records import Undo
from tests.ledger.conftest import Conversation

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
