"""The answer follows from the messages alone."""

import asyncio

import pytest
from anthropic import BadRequestError

from holdfast_workers.scripted_model import running

FROM_RESULT = """
name: count
description: Count with a tool.
example: count from 3
match: count from (?P<start>\\d+)
turns:
  - calls: [{tool: add, input: {to: "{{ match.start | int }}"}}]
  - when: outcome.add == 'denied'
    text: "Denied: {{ reason.add }}"
  - when: outcome.add == 'unknown'
    text: "I do not know whether it was added."
  - when: outcome.add == 'error'
    text: "It failed: {{ reason.add }}"
  - calls: [{tool: add, input: {to: "{{ results.add.sum }}"}}]
  - text: "{{ results.add.sum }} after {{ every.add | length }} steps"
"""


async def test_results_that_came_back_are_used(play):
    async with play(FROM_RESULT) as talk:
        await talk.says("count from 3").turn(["add"])
        second = await talk.returns('{"sum": 4}').turn(["add"])
        last = await talk.returns('{"sum": 5}').turn(["add"])
    assert second.content[0].input == {"to": 4}
    assert last.content[0].text == "5 after 2 steps"


async def test_a_condition_on_the_outcome_chooses_the_branch(play):
    outcomes = {
        "denied: too dear": "Denied: too dear",
        '{"error": {"code": "denied", "reason": "too dear"}}': "Denied: too dear",
        "cli:ada denied this call: too dear": "Denied: too dear",
        "Nobody decided about this call in time.": "Denied: Nobody decided about this call in time.",
        "outcome unknown: the worker was lost": "I do not know whether it was added.",
        "It is not known whether this call happened.": "I do not know whether it was added.",
        "out of range": "It failed: out of range",
    }
    async with play(FROM_RESULT) as talk:
        for told, expected in outcomes.items():
            talk.messages.clear()
            await talk.says("count from 3").turn(["add"])
            answer = await talk.returns(Exception(told)).turn(["add"])
            assert answer.content[0].text == expected


async def test_another_server_gives_the_same_answer_with_the_same_ids(play):
    async with play(FROM_RESULT) as talk, running(FROM_RESULT) as other:
        await talk.says("count from 3").turn(["add"])
        talk.returns('{"sum": 4}')
        messages = list(talk.messages)
        here = await talk.turn(["add"])
        again = await talk.client.messages.create(
            model="claude-test",
            max_tokens=4000,
            messages=messages,
            tools=[{"name": "add", "input_schema": {"type": "object"}}],
        )
        there = await talk.client.with_options(base_url=other.url).messages.create(
            model="claude-test",
            max_tokens=4000,
            messages=messages,
            tools=[{"name": "add", "input_schema": {"type": "object"}}],
        )
    assert here.content[0].id.startswith("toolu_")
    assert here.id == again.id == there.id
    assert here.content[0].id == again.content[0].id == there.content[0].id


async def test_two_turns_never_share_a_call_id(play):
    async with play(FROM_RESULT) as talk:
        first = await talk.says("count from 3").turn(["add"])
        second = await talk.returns('{"sum": 3}').turn(["add"])
    assert first.content[0].id != second.content[0].id


async def test_a_later_text_that_matches_starts_afresh(play):
    async with play(FROM_RESULT) as talk:
        await talk.says("count from 3").turn(["add"])
        await talk.returns('{"sum": 4}').turn(["add"])
        await talk.returns('{"sum": 5}').turn(["add"])
        again = await talk.says("count from 7").turn(["add"])
        nothing_left = await talk.returns(Exception("denied: no")).turn(["add"])
    assert again.content[0].input == {"to": 7}
    assert nothing_left.content[0].text == "Denied: no"


async def test_a_text_beside_results_steers_and_starts_nothing(play):
    async with play(FROM_RESULT) as talk:
        await talk.says("count from 3").turn(["add"])
        talk.returns('{"sum": 4}')
        talk.messages[-1]["content"].append({"type": "text", "text": "and hurry"})
        assert (await talk.turn(["add"])).content[0].input == {"to": 4}


async def test_a_request_to_continue_continues(play):
    async with play(FROM_RESULT) as talk:
        await talk.says("count from 3").turn(["add"])
        talk.messages[-1]["content"] = [{"type": "text", "text": "I add"}]
        cut_off = "Your answer was cut off at the output limit. Go on where you stopped."
        with pytest.raises(BadRequestError, match="scenario `count`"):  # it goes on, and misses the result
            await talk.says(cut_off).turn(["add"])


async def test_a_text_after_a_cancelled_call_is_a_new_matter(play):
    async with play(FROM_RESULT) as talk:
        await talk.says("count from 3").turn(["add"])
        await talk.returns(Exception("cancelled by the user")).says("What is the weather?").turn(["add"])
    assert "not Claude" in talk.messages[-1]["content"][0]["text"]


async def test_a_scenario_on_the_first_text_goes_on_over_later_ones(play):
    scenario = """
    name: interview
    description: d
    example: interview me
    match: {phrases: [interview, me], text: first}
    turns: [{text: Your name?}, {text: "Hello, {{ user_text }}"}]
    """
    async with play(scenario) as talk:
        await talk.says("Interview me, please").turn()
        answer = await talk.says("Ada").turn()
    assert answer.content[0].text == "Hello, Ada"


async def test_a_repeated_turn_plays_that_often(play):
    scenario = """
    name: loop
    description: d
    example: loop 3
    match: loop (?P<n>\\d+)
    turns:
      - {repeat: "{{ match.n | int }}", calls: [{tool: step, input: {n: "{{ position }}"}}]}
      - text: done
    """
    async with play(scenario) as talk:
        talk.says("loop 3")
        seen = []
        while (message := await talk.turn(["step"])).stop_reason == "tool_use":
            seen.append(message.content[0].input["n"])
            talk.returns("ok")
    assert seen == [1, 2, 3]


async def test_calls_come_one_by_one_where_parallel_calls_are_off(play):
    scenario = """
    name: pair
    description: d
    example: pair
    match: pair
    turns: [{calls: [{tool: a}, {tool: b}]}, {text: "{{ results.a }}{{ results.b }}"}]
    """
    async with play(scenario) as talk:
        talk.says("pair")
        choice = {"type": "auto", "disable_parallel_tool_use": True}
        for name in ("a", "b"):
            message = await talk.turn(["a", "b"], tool_choice=choice)
            assert [block.name for block in message.content] == [name]
            talk.returns(f"<{name}>")
        assert (await talk.turn(["a", "b"], tool_choice=choice)).content[0].text == "<a><b>"


async def test_what_it_cannot_play_is_said_in_words(play):
    async with play() as talk:
        text = (await talk.says("What is the capital of France?").turn()).content[0].text
        health = await talk.client.get("/healthz", cast_to=object)
    assert "scripted" in text
    assert "not Claude" in text
    assert "Move booking TRV-1042 to the next morning" in text
    assert "move-booking" in health["scenarios"]


async def test_fifty_conversations_at_once_are_kept_apart(play):
    async with play(FROM_RESULT) as talk:

        async def one(start: int) -> int:
            message = await talk.client.messages.create(
                model="m",
                max_tokens=99,
                messages=[{"role": "user", "content": f"count from {start}"}],
                tools=[{"name": "add", "input_schema": {"type": "object"}}],
            )
            return message.content[0].input["to"]

        assert await asyncio.gather(*(one(start) for start in range(50))) == list(range(50))
        assert talk.model.count == 50
