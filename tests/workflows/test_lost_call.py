"""An activity that somebody failed from outside says nothing of its effect: the effect's row does."""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from tests.conftest import House, OpenHouse
from tests.waiting import until

SCRIPT = """
name: ring
description: One write.
example: ring
match: '^ring$'
turns:
  - calls: [{tool: ring, input: {}}]
  - text: "{{ results.ring }}"
"""
CONFIG = """
[effects]
lease = "3s"
renewal = "1s"

[agents.default]
tools = ["lost_call_bench:ring"]

[agents.default.policy]
allow = ["ring"]
"""
TOOL = """
import asyncio
import os
from pathlib import Path

from holdfast import Never, Operator, tool

@tool(tier="irreversible", recovery=Operator(), undo=Never("it rang"))
async def ring() -> str:
    "Ring."
    at = Path(os.environ["RING_AT"])
    with (at / "log").open("a") as log:
        log.write("ring\\n")
    while not (at / "go").exists():
        await asyncio.sleep(0.05)
    return "rang"
"""


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Once it is there, the bell's ringing comes to its end."""
    (tmp_path / "lost_call_bench.py").write_text(TOOL)
    monkeypatch.setenv("RING_AT", str(tmp_path))
    return tmp_path / "go"


def end_the_ringing(go: Path) -> None:
    go.touch()


async def fail_the_attempt(house: House, session: str) -> None:
    """As `temporal activity fail` does, for good: the worker that runs the call is not asked."""
    handle = house.temporal.get_async_activity_handle(workflow_id=session, run_id=None, activity_id="turn-1.1.ring")

    async def failed() -> bool:
        try:
            await handle.fail(ApplicationError("somebody failed it", non_retryable=True))
        except RPCError:
            return False  # the workflow has not asked for it again yet
        return True

    # While the first attempt keeps its lease, each later one lasts some milliseconds and comes every few seconds.
    await until(failed, "an attempt that can be failed", within=45, pause=0.002)


async def lost(house: House, session: str) -> int:
    """How many attempts at the call Temporal takes for failed."""
    return sum(event.HasField("activity_task_failed_event_attributes") for event in await house.history(session))


async def test_a_call_whose_activity_was_failed_from_outside_answers_from_its_row(
    open_house: OpenHouse, go: Path
) -> None:
    async with open_house(SCRIPT, config=CONFIG) as house:
        session = await house.start("ring", close_when_idle=True)
        await house.until_claimed("ring")
        await fail_the_attempt(house, session)
        await until(lambda: lost(house, session), "the attempt to be failed")
        end_the_ringing(go)
        result = await house.holdfast.result(session)
        (effect,) = await house.holdfast.reader.effects(session_id=session, kind="call")

    assert result.status == "completed"
    assert effect.state == "DONE"
    assert (go.parent / "log").read_text() == "ring\n"


async def test_a_call_whose_activity_is_failed_again_and_again_holds_the_session_until_somebody_looks(
    open_house: OpenHouse, go: Path
) -> None:
    async with open_house(SCRIPT, config=CONFIG) as house:
        session = await house.start("ring", close_when_idle=True)
        await house.until_claimed("ring")
        await fail_the_attempt(house, session)
        await until(lambda: lost(house, session), "the attempt to be failed")
        await fail_the_attempt(house, session)
        await house.until(session, "held")
        held = await house.holdfast.reader.session(session)
        end_the_ringing(go)
        await house.holdfast.look_again(session, by="bo", reason="nobody fails it any more")
        result = await house.holdfast.result(session)

    assert "call 1.1 ring was failed" in (held.status_reason or "")
    assert result.status == "completed"
    assert (go.parent / "log").read_text() == "ring\n"
