"""The model of the benchmark: the Messages API over HTTP, thinking for no time at all.

It is as light as it can be, since whatever it takes is taken from both sides and would flatter the slower one.
`work N` is answered with N calls of `look`, one a turn, and a last word; `read N` with as many whose results are a
page long; `pay N` with as many of `pay`; `stream N MS` with N pieces of text, one every MS milliseconds, each the
time in nanoseconds at which it was written. `say N`, heard where it comes last, is answered with `heard N`. Tokens
are counted from the bytes of the request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import uvicorn

from holdfast_workers.scripted_model.wire import event
from holdfast_workers.stack.ports import LOOPBACK

ASKED = re.compile(r"(?P<verb>work|read|pay|stream) (?P<number>\d+) ?(?P<every_ms>\d*)")
SAID = re.compile(r"say (\d+)")
CALL_ID = "toolu_{position:06}"
BYTES_PER_TOKEN = 4
"""Of English text; a little more than a tokenizer makes of it."""
SAID_TOKENS = 10
CALLED = {"work": ("look", "room"), "read": ("look", "page"), "pay": ("pay", "room")}
"""The tool, and what it is called with, which ends with the number of the call."""
EVENTS = [(b"content-type", b"text/event-stream")]
COUNT = [(b"content-type", b"application/json")]


async def app(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
    body = await _body(receive)
    tokens = len(body) // BYTES_PER_TOKEN
    if scope["path"] != "/v1/messages":  # `/v1/messages/count_tokens`, or a probe
        await send({"type": "http.response.start", "status": 200, "headers": COUNT})
        await send({"type": "http.response.body", "body": json.dumps({"input_tokens": tokens}).encode()})
        return
    messages = json.loads(body)["messages"]
    await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
    if said := SAID.search(json.dumps(messages[-1]["content"])):
        answer = b"".join(_text(int(said[1]), f"heard {said[1]}", tokens))
        await send({"type": "http.response.body", "body": answer})
        return
    asked = ASKED.search(json.dumps(messages[0]["content"]))
    assert asked is not None, "the benchmark asks for `work N`, `read N`, `pay N`, `stream N MS` or `say N`"
    number, position = int(asked["number"]), _position(messages)
    if asked["verb"] == "stream":
        await _stream(send, number, int(asked["every_ms"]) / 1000, tokens)
        return
    turn = _text(position, "Done.", tokens) if position >= number else _call(position, asked["verb"], tokens)
    await send({"type": "http.response.body", "body": b"".join(turn)})


def _position(messages: Sequence[Mapping[str, Any]]) -> int:
    """How many calls there were, by the id of the last: earlier ones may have been left out."""
    answers = (message["content"] for message in reversed(messages) if message["role"] == "assistant")
    ids = (block["id"] for answer in answers for block in answer if block["type"] == "tool_use")
    return int(next(ids, CALL_ID.format(position=-1)).removeprefix("toolu_")) + 1


async def _body(receive: Any) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _text(position: int, text: str, tokens: int) -> Iterator[bytes]:
    delta = {"type": "text_delta", "text": text}
    yield from _answer(position, {"type": "text", "text": ""}, delta, tokens)


def _call(position: int, verb: str, tokens: int) -> Iterator[bytes]:
    tool, what = CALLED[verb]
    block = {"type": "tool_use", "id": CALL_ID.format(position=position), "name": tool, "input": {}}
    delta = {"type": "input_json_delta", "partial_json": json.dumps({"what": f"{what} {position}"})}
    yield from _answer(position, block, delta, tokens)


def _answer(position: int, block: dict[str, Any], delta: dict[str, Any], tokens: int) -> Iterator[bytes]:
    yield _opening(position, tokens)
    yield event("content_block_start", index=0, content_block=block)
    yield event("content_block_delta", index=0, delta=delta)
    yield _closing("tool_use" if block["type"] == "tool_use" else "end_turn", tokens)


def _opening(position: int, tokens: int) -> bytes:
    message = {"id": f"msg_{position:06}", "type": "message", "role": "assistant", "model": "scripted"}
    usage = _usage(tokens)
    return event("message_start", message={**message, "content": [], "stop_reason": None, "usage": usage})


def _closing(stop_reason: str, tokens: int) -> bytes:
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return (
        event("content_block_stop", index=0)
        + event("message_delta", delta=delta, usage=_usage(tokens))
        + event("message_stop")
    )


def _usage(tokens: int) -> dict[str, int]:
    return {"input_tokens": tokens, "output_tokens": SAID_TOKENS}


async def _stream(send: Any, pieces: int, every_s: float, tokens: int) -> None:
    begin = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    await send({"type": "http.response.body", "body": _opening(0, tokens) + begin, "more_body": True})
    for _ in range(pieces):
        await asyncio.sleep(every_s)
        delta = {"type": "text_delta", "text": f"{time.time_ns()} "}
        piece = event("content_block_delta", index=0, delta=delta)
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": _closing("end_turn", tokens)})


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.model", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    uvicorn.run(app, host=LOOPBACK, port=port, log_config=None, access_log=False, lifespan="off", ws="none")


if __name__ == "__main__":
    main()
