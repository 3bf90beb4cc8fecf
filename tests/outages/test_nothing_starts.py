"""With Postgres unreachable nothing starts, sessions wait, and go on by themselves when it is back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from temporalio.service import RPCError, RPCStatusCode

from tests.outages.conftest import Bench
from tests.waiting import until

OUTAGE_S = 30.0


def refused(bench: Bench, session: str) -> Callable[[], Awaitable[bool]]:
    """Whether the session's work was tried without Postgres, in vain, and is to be tried again."""

    async def tried() -> bool:
        described = await bench.house.handle(session).describe()
        return any(pending.attempt > 1 for pending in described.raw_description.pending_activities)

    return tried


async def test_nothing_starts_while_postgres_is_away_and_sessions_go_on_by_themselves(bench: Bench) -> None:
    """A session that has just begun, one with a new message, and one with an approved call: none does anything."""
    bench.let_answer()
    house = bench.house
    idle = await house.start("hello")
    await house.until(idle, "idle")
    approved = await house.start("pay")
    asked = await house.until_asked(approved)
    queue = house.settings.task_queue
    asked_of_the_model = house.model.count

    async with bench.own.postgres.away():
        new = await bench.cli("start", "hello", "--id", "never-began")
        assert (new.code, "safe to try again" in new.err) == (4, True)
        with pytest.raises(RPCError) as missing:
            await house.handle("never-began").describe()
        assert missing.value.status is RPCStatusCode.NOT_FOUND

        start = {"agent": "default", "message": "hello"}
        await house.temporal.start_workflow("AgentSession", start, id="by-hand", task_queue=queue)
        await house.handle(idle).execute_update("send", {"id": "m-2", "text": "look", "by": "ann"})
        await house.holdfast.decide(approved, asked["call"], approve=True, digest=asked["digest"], by="bob")
        for session in ("by-hand", idle, approved):
            await until(refused(bench, session), f"{session} to be refused", within=OUTAGE_S)
        assert (house.model.count, bench.runs) == (asked_of_the_model, [])

    async def answered() -> bool:
        """Not by its status alone: one of them was idle before, and the ledger says so until its turn begins."""
        rows = await house.rows("SELECT id, turns FROM holdfast.session WHERE status = 'idle'")
        return {row["id"]: row["turns"] for row in rows} == {"by-hand": 1, idle: 3, approved: 2}

    await until(answered, "all three to be answered", within=OUTAGE_S)
    assert sorted(bench.runs) == ["look parcel", "pay parcel"]
    assert house.model.count == asked_of_the_model + 1 + 2 + 1  # `hello`; `look` and its result; `pay`'s result
    effects = await house.rows("SELECT state, attempts_used FROM holdfast.effect")
    assert {(effect["state"], effect["attempts_used"]) for effect in effects} == {("DONE", 1)}
