"""What can go wrong on the way, and how often it does."""

import asyncio
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import anthropic
import httpx2
import pytest

from holdfast_workers.scripted_model.server import STOP_TIMEOUT


def request(talk) -> dict:
    tools = [{"name": "act", "input_schema": {"type": "object"}}]
    return {"model": "m", "max_tokens": 999, "messages": talk.messages, "tools": tools}


def script(*faults: str) -> str:
    listed = "".join(f"\n      - {fault}" for fault in faults)
    return f"""
name: job
description: d
example: job
match: ^job
turns:
  - text: A sentence that is long enough to come in several chunks, one after the other.
    calls: [{{tool: act, input: {{amount: 12345, to: somebody}}}}]
    faults:{listed}
  - text: Over.
"""


async def test_a_fault_with_times_lets_the_retry_succeed(play):
    async with play(script("{kind: http_error, status: 429, retry_after: 7, times: 2}")) as talk:
        talk.says("job")
        for _ in range(2):
            with pytest.raises(anthropic.RateLimitError) as caught:
                await talk.turn(["act"])
            assert caught.value.response.headers["retry-after"] == "7"
            assert caught.value.body["error"]["type"] == "rate_limit_error"
        assert (await talk.turn(["act"])).stop_reason == "tool_use"
        assert [each.fault for each in talk.model.requests] == ["http_error", "http_error", None]


async def test_retry_after_can_be_a_date(play):
    async with play(script("{kind: http_error, status: 529, retry_after: 30, retry_after_form: date}")) as talk:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await talk.says("job").turn(["act"])
    assert (caught.value.status_code, caught.value.type) == (529, "overloaded_error")
    waits = parsedate_to_datetime(caught.value.response.headers["retry-after"]) - datetime.now(UTC)
    assert 20 < waits.total_seconds() <= 31


async def test_the_client_itself_retries_what_the_api_says_it_may(play):
    async with play(script("{kind: http_error, status: 500, retry_after: 0.01, times: 1}")) as talk:
        client = talk.client.with_options(max_retries=1)
        message = await client.messages.create(**request(talk.says("job")))
        assert message.stop_reason == "tool_use"
        assert talk.model.count == 2


async def test_faults_are_counted_per_conversation(play):
    async with play(script("{kind: http_error, status: 529, times: 1}")) as talk:
        for text in ("job one", "job two"):
            talk.messages.clear()
            with pytest.raises(anthropic.APIStatusError):
                await talk.says(text).turn(["act"])
            await talk.turn(["act"])


async def test_equal_conversations_are_told_apart_by_their_key(play):
    async with play(script("{kind: http_error, status: 529, times: 1}")) as talk:
        for key in ("one", "two"):
            talk.messages.clear()
            talk.says("job")
            with pytest.raises(anthropic.APIStatusError):
                await talk.turn(["act"], extra_headers={"idempotency-key": key})
            await talk.turn(["act"], extra_headers={"idempotency-key": key})


async def test_a_truncated_stream_ends_cleanly_without_its_end(play):
    async with play(script("{kind: truncate, times: 1}")) as talk:
        message = await talk.says("job").turn(["act"])
    assert message.stop_reason is None
    assert message.content


@pytest.mark.parametrize("stream", [True, False])
async def test_a_dropped_connection_breaks_the_answer_off(play, stream):
    async with play(script("{kind: drop, times: 1}")) as talk:
        talk.says("job")
        with pytest.raises((httpx2.RemoteProtocolError, anthropic.APIConnectionError)):
            await (talk.turn(["act"]) if stream else talk.client.messages.create(**request(talk)))
        assert (await talk.turn(["act"])).stop_reason == "tool_use"


async def test_an_error_event_comes_inside_a_stream_that_began_well(play):
    async with play(script("{kind: error_event, after_events: 4, times: 1}")) as talk:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await talk.says("job").turn(["act"])
    assert (caught.value.status_code, caught.value.type) == (200, "overloaded_error")


@pytest.mark.parametrize("after", [0, 5])
async def test_a_stall_sends_nothing_for_a_while(play, after):
    async with play(script(f"{{kind: stall, seconds: 60, after_events: {after}}}")) as talk:
        with pytest.raises((httpx2.ReadTimeout, anthropic.APITimeoutError)):
            await talk.says("job").turn(["act"], timeout=httpx2.Timeout(5, read=0.2))


async def test_a_stall_ends_by_itself(play):
    async with play(script("{kind: stall, seconds: 0.2, after_events: 3}")) as talk:
        began = time.monotonic()
        assert (await talk.says("job").turn(["act"])).stop_reason == "tool_use"
        assert time.monotonic() - began >= 0.2


async def test_stopping_the_server_does_not_wait_for_a_stall(play):
    async with play(script("{kind: stall, seconds: 60, after_events: 2}")) as talk:
        asking = asyncio.create_task(talk.says("job").turn(["act"]))
        await talk.model.received(1)
        began = time.monotonic()
        await asyncio.to_thread(talk.model.stop)
        assert time.monotonic() - began < STOP_TIMEOUT
        with pytest.raises((httpx2.RemoteProtocolError, anthropic.APIConnectionError)):
            await asking


async def test_malformed_tool_json_is_refused_by_the_client_and_a_retry_succeeds(play):
    async with play(script("{kind: malformed_tool_json, times: 1}")) as talk:
        talk.says("job")
        with pytest.raises(ValueError, match="Unable to parse tool parameter JSON"):
            await talk.turn(["act"])
        assert (await talk.turn(["act"])).content[-1].input == {"amount": 12345, "to": "somebody"}


async def test_an_unknown_tool_and_a_cut_call_can_be_had(play):
    async with play(script("{kind: unknown_tool, name: nope, times: 1}", "{kind: max_tokens, times: 1}")) as talk:
        talk.says("job")
        unknown = await talk.turn(["act"])
        talk.messages.pop()
        cut = await talk.turn(["act"])
    assert (unknown.stop_reason, unknown.content[-1].name) == ("tool_use", "nope")
    assert cut.stop_reason == "max_tokens"
    assert cut.content[-1].input != {"amount": 12345, "to": "somebody"}


async def test_faults_can_be_injected_for_the_next_requests(play):
    async with play() as talk:
        talk.says("Hello!").model.inject({"kind": "http_error", "status": 503, "times": 2}, {"kind": "truncate"})
        for _ in range(2):
            with pytest.raises(anthropic.InternalServerError):
                await talk.turn()
        assert (await talk.turn()).stop_reason is None
        talk.messages.pop()
        assert (await talk.turn()).stop_reason == "end_turn"


async def test_faults_and_requests_can_be_reached_over_http(play):
    async with play() as talk, httpx2.AsyncClient(base_url=talk.model.url) as http:
        refused = await http.post("/_faults", json=[{"kind": "earthquake"}])
        await http.post("/_faults", json=[{"kind": "http_error", "status": 529, "times": 3}])
        with pytest.raises(anthropic.APIStatusError):
            await talk.says("Hello!").turn()
        waiting = (await http.get("/_faults")).json()["faults"]
        await http.delete("/_faults")
        await talk.turn(extra_headers={"traceparent": "00-abc"})
        log = (await http.get("/_requests")).json()
        emptied = (await http.delete("/_requests")).json()
    assert refused.status_code == 400
    assert len(waiting) == 2
    assert log["count"] == 2
    assert [each["fault"] for each in log["requests"]] == ["http_error", None]
    assert log["requests"][1]["headers"]["traceparent"] == "00-abc"
    assert log["requests"][1]["headers"]["authorization"] == "***"
    assert log["requests"][1]["body"]["messages"] == [{"role": "user", "content": "Hello!"}]
    assert log["requests"][1]["scenario"] == "hello"
    assert emptied == {"count": 0, "requests": []}
