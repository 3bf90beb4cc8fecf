"""A turn that would not fit is made shorter before it is sent: counted by the API, or refused by it."""

from __future__ import annotations

import asyncio
import json

import pytest
from temporalio.activity import ActivityCancellationDetails

from holdfast.memory import Memory
from holdfast_activities.messages_api.client import ModelSettings, open_client
from holdfast_activities.messages_api.counting import TokenCounter
from holdfast_activities.messages_api.remembering import LEFT_OUT
from holdfast_activities.messages_api.request import ModelRequest
from holdfast_activities.messages_api.sent import sent_in
from holdfast_cli.context import told

from .conftest import WEATHER, environment

SCRIPT = WEATHER
WINDOW = Memory(strategy="window", above=2000, down_to=600)
LONG = "much to read " * 500
"""More than 1,600 tokens as the scripted model counts."""
TOO_LONG = {"kind": "http_error", "status": 400, "message": "prompt is too long: 208310 tokens > 200000 maximum"}


def paths(model):
    return [request.path.rpartition("/")[2] for request in model.requests]


async def worked(session):
    """Four turns that fit; returns the last one's result."""
    result = await session.says("the weather please")
    for _ in range(3):
        result = await session.says(session.results(result, text="some small talk " * 40))
    return result


async def test_a_result_that_would_not_fit_is_made_room_for_now_and_not_one_turn_late(start, model, ledger):
    session = await start(memory=WINDOW)
    result = await worked(session)
    assert paths(model) == ["messages"] * 4, "nothing is counted while it surely fits"
    await session.says(session.results(result, text=LONG))
    assert paths(model)[4:] == ["count_tokens", "messages"]
    counted, sent = model.requests[-2:]
    assert len(sent.body["messages"]) < len(counted.body["messages"])
    assert LEFT_OUT in json.dumps(sent.body["messages"][0])
    assert sent.body["messages"][-1]["content"][0]["content"] == LONG
    shown = await sent_in(ledger, session.id, 5)
    assert shown.counted is not None
    assert any(f"it would have been {shown.counted} tokens" in line for line in told(shown))


async def test_what_was_counted_lets_every_turn_be_built_again_and_the_next_begins_with_the_same_bytes(
    start, model, ledger
):
    session = await start(memory=WINDOW.model_copy(update={"above": 2800}), cache=False)
    result = await worked(session)
    result = await session.says(session.results(result, text=LONG))
    await session.says(session.results(result))
    asked = [request.body for request in model.requests if request.path.endswith("messages")]
    assert paths(model)[4:] == ["count_tokens", "messages", "messages"]
    assert asked[-1]["messages"][: len(asked[-2]["messages"])] == asked[-2]["messages"]
    for number, body in enumerate(asked, start=1):
        sent = await sent_in(ledger, session.id, number)
        assert sent.matches
        assert sent.params["messages"] == body["messages"]


async def test_a_count_that_fits_after_all_changes_nothing(start, model, ledger):
    session = await start(memory=WINDOW.model_copy(update={"above": 4000}))
    result = await worked(session)
    await session.says(session.results(result, text=LONG))
    counted, sent = model.requests[-2:]
    assert (counted.path, sent.path) == ("/v1/messages/count_tokens", "/v1/messages")
    assert counted.body["messages"] == sent.body["messages"]
    assert (await sent_in(ledger, session.id, 5)).left_out == 0


async def test_a_provider_that_does_not_count_is_asked_once_and_turns_go_on(start, model, caplog):
    session = await start(memory=WINDOW)
    result = await worked(session)
    model.inject({"kind": "http_error", "status": 404, "counting": True})
    for _ in range(3):
        result = await session.says(session.results(result, text=LONG))
    assert paths(model).count("count_tokens") == 1
    assert caplog.text.count("this provider counts no tokens") == 1


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"{}", b'{"input_tokens": "many"}'])
async def test_a_gateway_that_answers_with_no_count_is_asked_once(body):
    asked = []

    async def answer(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        kind = b"text/html" if body.startswith(b"<") else b"application/json"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        writer.write(head % (kind, len(body)) + body)
        await writer.drain()
        writer.close()

    request = ModelRequest(
        params={"model": "m", "messages": []}, headers={}, digest="0", known=0, new=0, room_above=None
    )
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = open_client(ModelSettings(provider="gateway", base_url=f"http://127.0.0.1:{port}"))
        counter = TokenCounter(client)
        assert [await counter.count(request), await counter.count(request)] == [None, None]
        await client.close()
    assert len(asked) == 1


async def test_a_count_that_fails_once_is_asked_again_with_the_next_turn(start, model):
    session = await start(memory=WINDOW.model_copy(update={"above": 4000}))
    result = await worked(session)
    model.inject({"kind": "http_error", "status": 529, "counting": True})
    for _ in range(2):
        result = await session.says(session.results(result, text=LONG))
    assert paths(model)[4:] == ["count_tokens", "messages", "count_tokens", "messages"]


async def test_an_interrupt_does_not_wait_for_a_count_and_costs_nothing(start, model):
    session = await start(memory=WINDOW)
    result = await worked(session)
    model.inject({"kind": "stall", "seconds": 30, "counting": True})
    env = environment()
    request = session.asks(session.results(result, text=LONG))
    attempt = asyncio.create_task(session.attempt(request, env))
    await model.received(5)
    env.cancel(ActivityCancellationDetails(cancel_requested=True))
    result = await asyncio.wait_for(attempt, 5)
    assert (result.interrupted, result.usd) == (True, 0)
    assert paths(model)[4:] == ["count_tokens"]


@pytest.mark.parametrize("strategy", ["window", "prune_results", "summarise"])
async def test_a_request_refused_as_too_long_is_sent_shorter_in_the_same_attempt(start, model, ledger, strategy):
    session = await start(memory=Memory(strategy=strategy))
    result = await session.says("the weather please")
    for _ in range(2):
        result = await session.says(session.results(result, text="sun " * 200))
    model.inject(TOO_LONG)
    request = session.asks(session.results(result, text="rain " * 200))
    result = await session.attempt(request)
    assert result.stop_reason == "tool_use"
    session.goes_on(request, result)
    refused, sent = model.requests[-2:]
    assert len(json.dumps(sent.body)) < len(json.dumps(refused.body))
    assert "rain" in json.dumps(sent.body), "what is new is sent"
    assert [report.outcome for report in session.reports][-1] == "done"
    await session.says(session.results(result))
    asked = [each.body for each in model.requests if each is not refused]
    for number, body in enumerate(asked, start=1):
        again = await sent_in(ledger, session.id, number)
        assert (again.matches, again.params["messages"]) == (True, body["messages"])


async def test_a_request_that_cannot_be_made_shorter_fails_once_and_says_what_to_do(start, model):
    for memory in (Memory(), WINDOW):
        session = await start(memory=memory)
        model.inject(TOO_LONG)
        result = await session.attempt(session.asks("the weather please"))
        assert "Start a new session" in result.failed
        assert "`strategy` in `[agents.NAME.memory]`" in result.failed
        assert result.usd == 0
    assert model.count == 2
