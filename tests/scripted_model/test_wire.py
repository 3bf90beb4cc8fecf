"""The real client cannot tell the scripted model from the API."""

import json
from typing import Any

import httpx2
import pytest
from anthropic import NotFoundError

from holdfast_workers.scripted_model import ScriptedModel, running

RICH = """
name: rich
description: Everything an answer can hold.
example: go
match: ^go$
turns:
  - thinking: First I think about it for a while, in more than one chunk of text.
    text: Then I say what I found, in a sentence of some length.
    blocks:
      - {type: server_tool_use, id: srvtoolu_1, name: web_search, input: {query: holdfast}}
      - type: web_search_tool_result
        tool_use_id: srvtoolu_1
        content:
          - {type: web_search_result, url: "https://a.example", title: T, encrypted_content: x, page_age: null}
      - {type: block_of_the_future, payload: {deep: [1, 2, 3]}}
    calls:
      - {tool: look, input: {q: "{{ 20 + 1 }} and {{ 20 + 1 }}", n: "{{ 20 + 1 }}"}}
      - {tool: look, input: {nested: {list: ["{{ user_text }}", 2.5, null, true]}}}
"""
BODY: dict[str, Any] = {
    "model": "claude-test",
    "max_tokens": 4000,
    "messages": [{"role": "user", "content": "go"}],
    "tools": [{"name": "look", "input_schema": {"type": "object"}}],
    "thinking": {"type": "enabled", "budget_tokens": 2000},
}
HEADERS = {"x-api-key": "any", "anthropic-version": "2023-06-01"}


async def raw_events(model: ScriptedModel, body: dict[str, Any]) -> list[dict[str, Any]]:
    async with httpx2.AsyncClient(headers=HEADERS) as http:
        answer = await http.post(f"{model.url}/v1/messages", json=body | {"stream": True})
    events = []
    for part in answer.text.strip().split("\n\n"):
        name, data = part.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


async def test_streaming_and_not_give_the_same_message(play):
    async with play(RICH) as talk:
        whole = await talk.client.messages.create(**BODY)
        async with talk.client.messages.stream(**BODY) as stream:
            streamed = await stream.get_final_message()

    assert [block.type for block in whole.content] == [
        "thinking",
        "text",
        "server_tool_use",
        "web_search_tool_result",
        "block_of_the_future",
        "tool_use",
        "tool_use",
    ]
    dumped = [
        block.model_dump(exclude={"parsed_output"}, exclude_unset=True, warnings=False)
        for block in streamed.content
    ]
    assert dumped == [block.model_dump(exclude_unset=True, warnings=False) for block in whole.content]
    assert (streamed.id, streamed.model, streamed.stop_reason) == (whole.id, whole.model, whole.stop_reason)
    assert streamed.usage.output_tokens == whole.usage.output_tokens > 1
    assert whole.usage.server_tool_use.web_search_requests == 1


async def test_templates_keep_the_type_of_a_lone_expression(play):
    async with play(RICH) as talk:
        message = await talk.client.messages.create(**BODY)
    assert message.content[-2].input == {"q": "21 and 21", "n": 21}
    assert message.content[-1].input == {"nested": {"list": ["go", 2.5, None, True]}}


async def test_events_come_in_the_order_of_the_api():
    async with running(RICH) as model:
        events = await raw_events(model, BODY)

    kinds = [event["type"] for event in events]
    assert kinds[:3] == ["message_start", "content_block_start", "ping"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    thinking = [event["delta"]["type"] for event in events if event.get("index") == 0 and "delta" in event]
    assert thinking[-1] == "signature_delta"
    assert set(thinking[:-1]) == {"thinking_delta"}
    assert len(thinking) > 3
    start, end = events[0]["message"], events[-2]
    assert (start["stop_reason"], start["content"], start["usage"]["output_tokens"]) == (None, [], 1)
    assert end["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert end["usage"]["output_tokens"] > 1


async def test_thinking_is_sent_only_to_those_who_turned_it_on(play):
    async with play(RICH) as talk:
        message = await talk.client.messages.create(**{key: BODY[key] for key in BODY if key != "thinking"})
    assert message.content[0].type == "text"


STOPS = """
name: stops
description: Each stop reason.
example: stop end_turn
match: ^stop (?P<why>\\w+)
turns:
  - when: match.why == 'paused'
    blocks: [{type: server_tool_use, id: srvtoolu_1, name: web_search, input: {query: x}}]
    stop_reason: pause_turn
  - when: match.why == 'refused'
    stop_reason: refusal
    stop_details: {type: refusal, category: cyber, explanation: no}
  - when: match.why == 'sequence'
    text: Up to here
    stop_reason: stop_sequence
    stop_sequence: END
  - when: match.why == 'cut'
    text: I write it down.
    calls: [{tool: note, input: {text: "a text that will never arrive as a whole", more: [1, 2, 3]}}]
    stop_reason: max_tokens
  - when: match.why == 'future'
    stop_reason: reason_of_the_future
  - text: The end.
"""


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("end_turn", "end_turn"),
        ("paused", "pause_turn"),
        ("refused", "refusal"),
        ("sequence", "stop_sequence"),
        ("cut", "max_tokens"),
        ("future", "reason_of_the_future"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_every_stop_reason_reaches_the_client(play, why, reason, stream):
    async with play(STOPS) as talk:
        options = {
            "model": "claude-test",
            "max_tokens": 99,
            "messages": [{"role": "user", "content": f"stop {why}"}],
        }
        options["tools"] = [{"name": "note", "input_schema": {"type": "object"}}]
        if stream:
            async with talk.client.messages.stream(**options) as events:
                message = await events.get_final_message()
        else:
            message = await talk.client.messages.create(**options)

    assert message.stop_reason == reason
    assert message.stop_sequence == ("END" if why == "sequence" else None)
    if why == "refused":
        assert message.stop_details.category == "cyber"
    if why == "cut":
        whole = {"text": "a text that will never arrive as a whole", "more": [1, 2, 3]}
        assert message.content[-1].type == "tool_use"
        assert message.content[-1].input != whole


async def test_a_paused_turn_goes_on_when_it_is_sent_back(play):
    async with play(STOPS.replace("  - text: The end.", "  - text: And so it ends.")) as talk:
        paused = await talk.says("stop paused").turn()
        rest = await talk.turn()
    assert (paused.stop_reason, rest.stop_reason) == ("pause_turn", "end_turn")
    assert rest.content[0].text == "And so it ends."


async def test_max_tokens_and_stop_sequences_of_the_request_cut_the_answer(play):
    async with play(
        "{name: a, description: d, example: hi, match: ^hi, turns: [{text: one two three four five}]}"
    ) as talk:
        cut = await talk.client.messages.create(model="m", max_tokens=2, messages=talk.says("hi").messages)
        stopped = await talk.client.messages.create(
            model="m", max_tokens=99, messages=talk.messages, stop_sequences=["four", "three"]
        )
    assert (cut.stop_reason, cut.content[0].text, cut.usage.output_tokens) == ("max_tokens", "one two ", 2)
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "three")
    assert stopped.content[0].text == "one two "


async def test_tokens_are_counted_and_models_listed(play):
    async with play() as talk:
        counted = await talk.client.messages.count_tokens(model="m", messages=talk.says("hello " * 100).messages)
        message = await talk.client.messages.create(model="m", max_tokens=99, messages=talk.messages)
        models = [model.id async for model in talk.client.models.list()]
        assert (await talk.client.models.retrieve(models[0])).id == models[0]
        with pytest.raises(NotFoundError):
            await talk.client.models.retrieve("no-such-model")
    assert counted.input_tokens == message.usage.input_tokens > 100


async def test_cache_breakpoints_are_written_first_and_read_later(play):
    system = [{"type": "text", "text": "rule " * 2000, "cache_control": {"type": "ephemeral"}}]
    options = {"system": system, "cache_control": {"type": "ephemeral"}}
    scenario = "{name: a, description: d, example: hi, match: ^hi, turns: [{calls: [{tool: look}]}, {text: done}]}"
    async with play(scenario) as talk:
        first = (await talk.says("hi").turn(["look"], **options)).usage
        second = (await talk.returns("x" * 400).turn(["look"], **options)).usage
    assert first.cache_read_input_tokens == 0
    assert first.cache_creation_input_tokens > 2000
    assert second.cache_read_input_tokens == first.cache_creation_input_tokens
    assert 100 < second.cache_creation_input_tokens < 300


async def test_errors_have_the_format_of_the_api(play):
    async with play() as talk, httpx2.AsyncClient() as http:
        with pytest.raises(NotFoundError) as caught:
            await talk.client.get("/v1/nothing", cast_to=object)
        without_key = await http.post(f"{talk.model.url}/v1/messages", json=BODY)
    body = caught.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == "not_found_error"
    assert body["request_id"] == caught.value.request_id
    assert without_key.status_code == 401
    assert without_key.json()["error"]["type"] == "authentication_error"


async def test_every_answer_has_a_request_id_of_its_own(play):
    async with play() as talk:
        ids = [(await talk.client.messages.create(**BODY))._request_id for _ in range(2)]
    assert all(each.startswith("req_") for each in ids)
    assert len(set(ids)) == 2


async def test_a_paused_turn_and_its_rest_may_come_back_as_one_message(play):
    scenario = STOPS.replace("  - text: The end.", "  - calls: [{tool: note}]\n  - text: Noted.")
    async with play(scenario) as talk:
        await talk.says("stop paused").turn(["note"])
        await talk.turn(["note"])
        talk.messages[1]["content"] += talk.messages.pop()["content"]
        last = await talk.returns("ok").turn(["note"])
    assert last.content[0].text == "Noted."
