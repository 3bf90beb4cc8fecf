"""What a request offers and chooses decides, whatever the script says."""

import pytest

SCRIPT = """
name: work
description: d
example: work
match: ^work
turns:
  - {text: Starting., calls: [{tool: first}, {tool: second}]}
  - {calls: [{tool: third}], wrap_up: "Stopped after {{ results.first }}."}
  - text: All done.
"""
ALL = ["first", "second", "third"]


async def test_a_tool_that_is_not_offered_ends_the_turn_in_words(play):
    async with play(SCRIPT) as talk:
        message = await talk.says("work").turn(["first"])
    assert message.stop_reason == "end_turn"
    assert [block.type for block in message.content] == ["text"]
    assert "`second`" in message.content[0].text


@pytest.mark.parametrize("how", ["no tools", "choice none"])
async def test_a_turn_without_tools_is_wrapped_up_with_what_is_known(play, how):
    async with play(SCRIPT) as talk:
        await talk.says("work").turn(ALL)
        talk.returns("A", "B")
        none = {"tool_choice": {"type": "none"}} if how == "choice none" else {}
        message = await talk.turn(ALL if how == "choice none" else [], **none)
    assert (message.stop_reason, message.content[0].text) == ("end_turn", "Stopped after A.")


async def test_a_named_choice_calls_that_tool_alone(play):
    async with play(SCRIPT) as talk:
        message = await talk.says("work").turn(ALL, tool_choice={"type": "tool", "name": "second"})
    assert [block.name for block in message.content if block.type == "tool_use"] == ["second"]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "book"}])
async def test_a_forced_call_that_is_not_scripted_gets_input_from_the_schema(play, choice):
    schema = {
        "type": "object",
        "properties": {
            "seat": {"$ref": "#/$defs/Seat"},
            "count": {"type": "integer", "minimum": 2},
            "kind": {"enum": ["window", "aisle"]},
            "note": {"type": "string"},
        },
        "required": ["seat", "count", "kind"],
        "$defs": {"Seat": {"type": "object", "properties": {"row": {"type": "string"}}, "required": ["row"]}},
    }
    async with play(SCRIPT) as talk:
        tools = [{"name": "book", "input_schema": schema}]
        talk.says("something else")
        message = await talk.client.messages.create(
            model="m", max_tokens=99, messages=talk.messages, tools=tools, tool_choice=choice
        )
    assert message.stop_reason == "tool_use"
    assert message.content[0].name == "book"
    assert message.content[0].input == {"seat": {"row": "scripted"}, "count": 2, "kind": "window"}


async def test_any_keeps_the_calls_that_are_scripted(play):
    async with play(SCRIPT) as talk:
        message = await talk.says("work").turn(ALL, tool_choice={"type": "any"})
    assert [block.name for block in message.content if block.type == "tool_use"] == ["first", "second"]
