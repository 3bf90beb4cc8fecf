"""A request that the API would refuse is refused, with the API's words."""

import copy

import pytest
from anthropic import BadRequestError

TOOL = {"name": "look", "input_schema": {"type": "object"}}
SCRIPT = """
name: look
description: d
example: look
match: ^look
turns:
  - {thinking: I should look., calls: [{tool: look}, {tool: look}]}
  - text: "{{ results.look.colour }}"
"""
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}}


async def after_one_turn(talk):
    await talk.says("look").turn(["look"], **THINKING)
    talk.returns("1", "2")
    return talk.messages


async def refused(talk, messages, **options) -> str:
    with pytest.raises(BadRequestError) as caught:
        await talk.client.messages.create(
            **({"model": "m", "max_tokens": 99, "tools": [TOOL], "messages": messages} | options)
        )
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    return caught.value.body["error"]["message"]


async def test_a_call_without_its_result_is_refused(play):
    async with play(SCRIPT) as talk:
        messages = await after_one_turn(talk)
        lost = messages[-1]["content"].pop()["tool_use_id"]
        message = await refused(talk, messages)
        assert "without `tool_result` blocks immediately after" in message
        assert lost in message
        assert "immediately after" in await refused(talk, messages[:-1])


async def test_a_result_without_its_call_or_a_second_one_is_refused(play):
    async with play(SCRIPT) as talk:
        messages = await after_one_turn(talk)
        stray = copy.deepcopy(messages)
        stray[-1]["content"].append({"type": "tool_result", "tool_use_id": "toolu_stray", "content": "x"})
        assert "unexpected `tool_use_id`" in await refused(talk, stray)
        messages[-1]["content"].append(messages[-1]["content"][0])
        assert "single result" in await refused(talk, messages)


async def test_an_edited_thinking_block_is_refused(play):
    async with play(SCRIPT) as talk:
        messages = await after_one_turn(talk)
        assert messages[1]["content"][0]["type"] == "thinking"
        messages[1]["content"][0]["thinking"] += " Or not."
        assert "Invalid `signature` in `thinking` block" in await refused(talk, messages)


async def test_what_the_api_requires_is_required(play):
    async with play(SCRIPT) as talk:
        talk.says("look")
        assert "at least one message" in await refused(talk, [])
        assert "Tool names must be unique" in await refused(talk, talk.messages, tools=[TOOL, TOOL])
        assert "not found" in await refused(talk, talk.messages, tool_choice={"type": "tool", "name": "leap"})
        assert "max_tokens" in await refused(talk, talk.messages, max_tokens=0)
        assert "non-empty" in await refused(talk, [{"role": "user", "content": [{"type": "text", "text": ""}]}])


async def test_a_template_that_cannot_use_a_result_names_its_scenario(play):
    async with play(SCRIPT) as talk:
        message = await refused(talk, await after_one_turn(talk))
    assert "scenario `look`" in message
    assert "colour" in message
