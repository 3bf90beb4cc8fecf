"""The model of the benchmark: the Messages API over HTTP, thinking for no time at all.

It is as light as it can be, since whatever it takes is taken from both sides and would flatter the slower one.
`work N` is answered with N calls of `look`, one a turn, and a last word; `stream N MS` with N pieces of text, one
every MS milliseconds, each the time in nanoseconds at which it was written.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import uvicorn

from holdfast_workers.scripted_model.wire import event
from holdfast_workers.stack.ports import LOOPBACK

ASKED = re.compile(r"(?P<verb>work|stream) (?P<number>\d+) ?(?P<every_ms>\d*)")
USAGE = {"input_tokens": 100, "output_tokens": 10}
EVENTS = [(b"content-type", b"text/event-stream")]


async def app(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
    body = await _body(receive)
    if scope["path"] != "/v1/messages":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        return
    messages = json.loads(body)["messages"]
    asked = ASKED.search(json.dumps(messages[0]["content"]))
    assert asked is not None, "the benchmark asks for `work N` or `stream N MS`"
    number, position = int(asked["number"]), sum(message["role"] == "assistant" for message in messages)
    await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
    if asked["verb"] == "stream":
        await _stream(send, number, int(asked["every_ms"]) / 1000)
    else:
        await send({"type": "http.response.body", "body": b"".join(_turn(position, last=position >= number))})


async def _body(receive: Any) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _turn(position: int, *, last: bool) -> Iterator[bytes]:
    if last:
        yield from _answer(position, {"type": "text", "text": ""}, ({"type": "text_delta", "text": "Done."},))
        return
    call = {"type": "tool_use", "id": f"toolu_{position:06}", "name": "look", "input": {}}
    arguments = json.dumps({"what": f"room {position}"})
    yield from _answer(position, call, ({"type": "input_json_delta", "partial_json": arguments},))


def _answer(position: int, block: dict[str, Any], deltas: tuple[dict[str, Any], ...]) -> Iterator[bytes]:
    yield _opening(position)
    yield event("content_block_start", index=0, content_block=block)
    for delta in deltas:
        yield event("content_block_delta", index=0, delta=delta)
    yield _closing("tool_use" if block["type"] == "tool_use" else "end_turn")


def _opening(position: int) -> bytes:
    message = {"id": f"msg_{position:06}", "type": "message", "role": "assistant", "model": "scripted"}
    return event("message_start", message={**message, "content": [], "stop_reason": None, "usage": USAGE})


def _closing(stop_reason: str) -> bytes:
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return (
        event("content_block_stop", index=0)
        + event("message_delta", delta=delta, usage=USAGE)
        + event("message_stop")
    )


async def _stream(send: Any, pieces: int, every_s: float) -> None:
    begin = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    await send({"type": "http.response.body", "body": _opening(0) + begin, "more_body": True})
    for _ in range(pieces):
        await asyncio.sleep(every_s)
        delta = {"type": "text_delta", "text": f"{time.time_ns()} "}
        piece = event("content_block_delta", index=0, delta=delta)
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": _closing("end_turn")})


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.model", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    uvicorn.run(app, host=LOOPBACK, port=port, log_config=None, access_log=False, lifespan="off", ws="none")


if __name__ == "__main__":
    main()
