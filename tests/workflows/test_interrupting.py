"""People break in: an interrupt keeps what was done and leaves no call unanswered, a message queues or steers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from holdfast_ledger.watching import Streamed, Told
from holdfast_workers.client import Rejected
from tests.waiting import until
from tests.workflows.conftest import Gate, Runs
from tests.workflows.scenarios import PAY
from tests.workflows.test_session import dangling, tool_results

SHIP = """
name: ship
description: Ship, which takes as long as the gate is shut, then look.
example: ship
match: ship
turns:
  - calls: [{tool: ship, input: {what: parcel}}]
  - text: "{{ results.ship }}; {{ user_text }}"
"""

SLOW = '''
import asyncio
import os
from pathlib import Path

from holdfast import Idempotent, ToolContext, tool


@tool(tier="irreversible", recovery=Idempotent("24h"))
async def fetch_back(ctx: ToolContext, what: str) -> str:
    """Fetch something back."""
    return f"{what} is back"


@tool(tier="reversible", recovery=Idempotent("24h"), undo=fetch_back, undo_args=lambda args, result: args)
async def ship(ctx: ToolContext, what: str) -> str:
    """Ship something."""
    with Path(os.environ["BENCH_LOG"]).open("a") as log:
        log.write(f"ship {what}\\n")
    while Path(os.environ["BENCH_GATE"]).exists():
        await asyncio.sleep(0.02)
    return f"{what} is shipped"
'''


@pytest.fixture
def slow(config: str, tmp_path: Path, gate: Gate) -> str:
    """An agent whose `ship` waits at the gate."""
    (tmp_path / "slow.py").write_text(SLOW)
    gate.touch()
    return config.replace('"bench:pay"', '"bench:pay", "slow:ship"')


async def test_an_interrupt_lets_a_write_that_runs_finish_and_keeps_its_result(
    open_house, slow: str, gate: Gate, runs: Runs
) -> None:
    async with open_house(SHIP, config=slow) as house:
        session = await house.start("ship")
        await house.until_claimed("ship")
        await until(runs, "the tool to run")
        assert (await house.holdfast.interrupt(session, by="ann")).how == "now"
        (effect,) = await house.rows("SELECT state FROM holdfast.effect WHERE tool = 'ship'")
        assert effect["state"] == "CLAIMED"
        gate.unlink()
        await house.until(session, "idle")
        assert runs() == ["ship parcel"]
        assert [row["state"] for row in await house.rows("SELECT state FROM holdfast.saga")] == ["COMMITTED"]
        await house.holdfast.send(session, "hello", by="ann")
        body = (await house.model.received(2))[-1].body
        assert not dangling(body)
        assert "parcel is shipped" in json.dumps(list(tool_results(body).values()))


@pytest.mark.parametrize("payload", [None, {"reason": "wait", "by": "ann"}], ids=["bare signal", "signal"])
async def test_an_interrupt_while_a_person_is_asked_runs_nothing_and_the_ask_is_over(
    open_house, config: str, runs: Runs, payload: object
) -> None:
    async with open_house(PAY, config=config) as house:
        session = await house.start("pay")
        asked = await house.until_asked(session)
        await house.handle(session).signal("interrupt", *([] if payload is None else [payload]))
        await house.until(session, "idle")
        with pytest.raises(Rejected, match="not waiting"):
            await house.holdfast.decide(session, asked["call"], approve=True, digest=asked["digest"], by="bob")
        await house.holdfast.send(session, "hello", by="ann")
        assert not dangling((await house.model.received(2))[-1].body)
        assert runs() == []
        assert await house.rows("SELECT 1 FROM holdfast.approval WHERE state = 'pending'") == []


async def test_a_watcher_sees_what_was_said_before_the_interrupt_and_who_broke_in(open_house) -> None:
    async with open_house() as house:
        house.model.inject({"kind": "stall", "seconds": 30, "after_events": 5})
        session = await house.start("hello")
        seen: list[Told] = []
        heard: list[str] = []

        async def watch() -> None:
            async for event in house.holdfast.ledger.watch(session):
                if isinstance(event, Told):
                    seen.append(event)
                    if event.entry.kind == "request_closed":
                        return
                elif isinstance(event, Streamed) and not heard:
                    heard.append(event.text)
                    await house.holdfast.interrupt(session, by="ann", reason="enough")

        await asyncio.wait_for(watch(), 20)
        (turn,) = [event for event in seen if event.entry.kind == "model_turn"]
        assert turn.entry.outcome == "interrupted"
        assert turn.message[0]["text"].startswith(heard[0])
        assert [(e.entry.actor, e.entry.outcome) for e in seen if e.entry.kind == "command_received"] == [
            ("ann", "interrupt")
        ]


@pytest.mark.parametrize("raw", [False, True], ids=["update", "signal"])
async def test_a_message_during_a_turn_is_the_next_request_or_steers_this_one(
    open_house, slow: str, gate: Gate, raw: bool
) -> None:
    async with open_house(SHIP, config=slow) as house:
        session = await house.start("ship")
        await house.until_claimed("ship")
        if raw:
            await house.handle(session).signal("send", "hello, later")
            await house.handle(session).signal("send", {"text": "to Oslo", "steer": True})
        else:
            later = await house.holdfast.send(session, "hello, later", by="ann")
            steered = await house.holdfast.send(session, "to Oslo", by="ann", steer=True)
            assert (later.how, steered.how) == ("queued", "now")
        gate.unlink()
        bodies = [request.body for request in await house.model.received(3)]
        await house.until(session, "idle")
        assert len(bodies) == 3
        joined, following = bodies[1]["messages"][-1]["content"], bodies[2]["messages"][-1]["content"]
        assert [block["type"] for block in joined] == ["tool_result", "text"]
        assert joined[1]["text"] == "to Oslo"
        assert [block["text"] for block in following] == ["hello, later"]
        messages = [e["outcome"] for e in await house.entries(session) if e["kind"] == "message_received"]
        assert messages == ["request", "steering", "request"]
        assert len(await house.rows("SELECT 1 FROM holdfast.saga")) == 2
