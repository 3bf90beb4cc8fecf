"""A session whose agent sums up: however long it gets, what is sent stays short, and the work goes on."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from holdfast.budget import TighterLimits
from holdfast.ids import canonical
from holdfast.messages import SUMMARY_ID
from holdfast_activities.messages_api.sent import sent_in
from holdfast_ledger.store import Ledger
from holdfast_workflows.summaries import GO_ON, SUMMARISE
from tests.activities.model_turn.test_prompt_cache import cached

ABOVE = 2000
MEMORY = f"""
[agents.default.memory]
strategy = "summarise"
above = {ABOVE}
down_to = 0
model = "claude-haiku-4-5"
"""

ON_AND_ON = """
name: on-and-on
description: One read a turn, for ever.
example: look around
match: look around|about to be shortened
turns:
  - calls: [{tool: look, input: {what: "the roof, the walls, the windows, the doors, the stairs and the cellar"}}]
    repeat: 1000
    wrap_up: The roof was looked at, and the walls; the cellar is left.
"""
TURN = 400
"""More tokens than one turn, and a request for a summary, add."""


async def turns(house, session: str) -> list[dict[str, object]]:
    rows = await house.rows(
        """SELECT t.turn, t.model_asked,
               t.input_tokens + t.output_tokens + t.cache_read_tokens + t.cache_write_tokens AS context
        FROM holdfast.turn t JOIN holdfast.session s USING (session_key) WHERE s.id = $1 ORDER BY turn""",
        session,
    )
    return [dict(row) for row in rows]


@pytest.mark.timeout(180)
async def test_a_session_of_60_turns_sends_no_more_than_its_memory_holds_also_across_continue_as_new(
    open_house, impatient_temporal: str, config: str
) -> None:
    config = config.replace("parallel_calls = 4", "parallel_calls = 4\nturns = 100")
    async with open_house(ON_AND_ON, config=config + MEMORY, temporal_address=impatient_temporal) as house:
        session = await house.start("look around", limits=TighterLimits(turns=60), close_when_idle=True)
        first = (await house.handle(session).describe()).run_id
        assert (await asyncio.wait_for(house.holdfast.result(session), 120)).turns == 61
        assert (await house.handle(session).describe()).run_id != first
        recorded = await turns(house, session)
        assert [turn["turn"] for turn in recorded] == list(range(1, 62)), "the last one tells where things stand"
        assert max(turn["context"] for turn in recorded) <= ABOVE + TURN
        summaries = [turn for turn in recorded if turn["model_asked"] == "claude-haiku-4-5"]
        assert len(summaries) >= 3
        sent = [cached(request.body) for request in house.model.requests]
        lost = sum(now[: len(before)] != before for before, now in pairwise(sent))
        assert lost == len(summaries), "the provider's cache is lost with each summary, and with nothing else"
        sagas = await house.rows("SELECT state FROM holdfast.saga")
        assert [saga["state"] for saga in sagas] == ["COMMITTED"], "no summary ended the request"


@pytest.mark.golden
async def test_a_summary_comes_between_two_turns_and_the_request_goes_on_from_it(
    open_house, config: str, ledger: Ledger
) -> None:
    async with open_house(ON_AND_ON, config=config + MEMORY.replace("2000", "400")) as house:
        session = await house.start("look around", limits=TighterLimits(turns=4), close_when_idle=True)
        await asyncio.wait_for(house.holdfast.result(session), 20)
        bodies = [request.body for request in house.model.requests]
        asked, after = bodies[1], bodies[2]
        assert asked["model"] == "claude-haiku-4-5"
        assert asked["tool_choice"] == {"type": "none"}
        assert [block["type"] for block in asked["messages"][-1]["content"]] == ["tool_result", "text"]
        said = [block["text"] for message in after["messages"] for block in message["content"]]
        assert said == [SUMMARISE, "The roof was looked at, and the walls; the cellar is left.", GO_ON]
        assert "tool_choice" not in after
        for number, body in enumerate(bodies, start=1):
            sent = await sent_in(ledger, session, number)
            assert sent.matches, f"turn {number} can be built again"
            assert canonical(dict(sent.params)) == canonical({name: body[name] for name in sent.params})


async def test_a_new_request_is_answered_after_the_summary_not_by_it(open_house, config: str) -> None:
    async with open_house(ON_AND_ON, config=config + MEMORY.replace("2000", "10")) as house:
        session = await house.start("hello")
        await house.until(session, "idle")
        await house.holdfast.send(session, "what do you know?", by="ann")
        await house.holdfast.close_session(session, by="ann")
        await asyncio.wait_for(house.holdfast.result(session), 20)
        texts = [
            [block["text"] for block in request.body["messages"][-1]["content"]] for request in house.model.requests
        ]
        assert texts[1][0] == SUMMARISE
        assert texts[2][0] == "what do you know?"


async def test_a_summary_that_makes_no_room_is_asked_for_again_only_once_it_could(open_house, config: str) -> None:
    """Tools and system prompt alone are more than the memory is to hold."""
    above = 1200
    async with open_house(ON_AND_ON, config=config + MEMORY.replace("2000", str(above))) as house:
        session = await house.start("look around", limits=TighterLimits(turns=14), close_when_idle=True)
        await asyncio.wait_for(house.holdfast.result(session), 30)
        recorded = await turns(house, session)
        summaries = [i for i, turn in enumerate(recorded) if turn["model_asked"] == "claude-haiku-4-5"]
        assert recorded[summaries[0] + 1]["context"] > above, "no room was made"
        for one, other in pairwise(summaries):
            assert recorded[other - 1]["context"] >= recorded[one + 1]["context"] + above / 4


async def test_no_user_message_is_taken_for_the_one_that_asks_for_a_summary(open_house, config: str) -> None:
    async with open_house(config=config) as house:
        session = await house.start("hello")
        with pytest.raises(Exception, match="the session's own"):
            await house.holdfast.send(session, "hello", by="ann", message_id=f"{SUMMARY_ID}1")
