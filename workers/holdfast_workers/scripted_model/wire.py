"""An answer in the API's own format: the JSON message, or the exact sequence of SSE events.

message_start, content_block_start, ping, content_block_delta ..., content_block_stop, message_delta, message_stop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic_core import from_json

from holdfast_workers.scripted_model.conversation import made_id
from holdfast_workers.scripted_model.faults import Fault, MalformedToolJson, MaxTokens, UnknownTool
from holdfast_workers.scripted_model.playback import Answer
from holdfast_workers.scripted_model.usage import CHARACTERS_PER_TOKEN, block_tokens, usage

CHUNK = 24  # characters; about what the API sends at a time


@dataclass(frozen=True)
class Reply:
    """One message, ready to be sent."""

    id: str
    model: str
    content: list[dict[str, Any]]
    stop_reason: str
    stop_sequence: str | None
    stop_details: dict[str, Any] | None
    usage: dict[str, Any]
    broken_input: str | None = None
    """Text streamed as the arguments of the last (cut) or first (malformed) call instead of its input."""
    broken_at: int = -1


SCRIPTED = "scripted"
"""The model that answers, so that no record says Claude did and no price is that of Claude."""


def compose(answer: Answer, body: Mapping[str, Any], fault: Fault | None, name: str | None) -> Reply:
    """`answer` as the request and `fault` let it through: cut by max_tokens or a stop sequence, or spoiled.

    `name` is the model that answers; None gives the one that was asked for.
    """
    turn = answer.turn
    reply = Reply(
        id=made_id("msg", answer.conversation),
        model=(turn.model if turn else None) or name or body["model"],
        content=answer.content,
        stop_reason=answer.stop_reason,
        stop_sequence=answer.stop_sequence,
        stop_details=turn.stop_details if turn else None,
        usage={},
    )
    reply = _stop_at_sequence(reply, body.get("stop_sequences") or [])
    if isinstance(fault, MaxTokens) or (turn is not None and turn.stop_reason == "max_tokens"):
        reply = _cut_last_block(reply, shorten_text=isinstance(fault, MaxTokens))
    elif isinstance(fault, UnknownTool):
        reply = _with_block(reply, _first_call(reply), name=fault.name)
    elif isinstance(fault, MalformedToolJson):
        reply = _malformed(reply)
    reply = _cut_to(reply, body["max_tokens"])
    return replace(reply, usage=usage(body, reply.content) | (turn.usage if turn else {}))


def message(reply: Reply) -> dict[str, Any]:
    """The body of an answer without streaming."""
    content = reply.content
    if reply.broken_input is not None and reply.stop_reason != "max_tokens":
        content = _with_block(reply, reply.broken_at, input=reply.broken_input).content
    return _envelope(reply, content=content, usage=reply.usage) | {
        "stop_reason": reply.stop_reason,
        "stop_sequence": reply.stop_sequence,
        **({"stop_details": reply.stop_details} if reply.stop_details else {}),
    }


def events(reply: Reply) -> Iterator[bytes]:
    """The SSE events, one by one."""
    opening = _envelope(reply, content=[], usage=reply.usage | {"output_tokens": 1})
    yield event("message_start", message=opening)
    for index, block in enumerate(reply.content):
        yield event("content_block_start", index=index, content_block=_opened(block))
        if index == 0:
            yield event("ping")
        for delta in _deltas(block, reply.broken_input if index == reply.broken_at else None):
            yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
    ending: dict[str, Any] = {"stop_reason": reply.stop_reason, "stop_sequence": reply.stop_sequence}
    if reply.stop_details:
        ending["stop_details"] = reply.stop_details
    total = {key: value for key, value in reply.usage.items() if key not in ("cache_creation", "service_tier")}
    yield event("message_delta", delta=ending, usage=total)
    yield event("message_stop")


def event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields}, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()


def _envelope(reply: Reply, *, content: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": reply.id,
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _opened(block: dict[str, Any]) -> dict[str, Any]:
    """The block as its stream begins; kinds without deltas come whole."""
    match block["type"]:
        case "text":
            return {"type": "text", "text": ""} | ({"citations": []} if block.get("citations") else {})
        case "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
        case "tool_use" | "server_tool_use":
            return block | {"input": {}}
        case _:
            return block


def _deltas(block: dict[str, Any], broken_input: str | None) -> Iterator[dict[str, Any]]:
    match block["type"]:
        case "text":
            for citation in block.get("citations") or []:
                yield {"type": "citations_delta", "citation": citation}
            for text in _chunks(block["text"]):
                yield {"type": "text_delta", "text": text}
        case "thinking":
            for text in _chunks(block["thinking"]):
                yield {"type": "thinking_delta", "thinking": text}
            yield {"type": "signature_delta", "signature": block.get("signature", "")}
        case "tool_use" | "server_tool_use":
            yield {"type": "input_json_delta", "partial_json": ""}
            for text in _chunks(json.dumps(block["input"]) if broken_input is None else broken_input):
                yield {"type": "input_json_delta", "partial_json": text}


def _chunks(text: str) -> Iterator[str]:
    """Pieces of about `CHUNK` characters that end at a space where there is one."""
    start = 0
    while start < len(text):
        end = start + CHUNK
        space = text.rfind(" ", start, end)
        if space > start and end < len(text):
            end = space + 1
        yield text[start:end]
        start = end


def _with_block(reply: Reply, index: int, **fields: Any) -> Reply:
    content = [block | fields if place == index else block for place, block in enumerate(reply.content)]
    return replace(reply, content=content)


def _first_call(reply: Reply) -> int:
    return next(index for index, block in enumerate(reply.content) if block["type"] == "tool_use")


def _malformed(reply: Reply) -> Reply:
    index = _first_call(reply)
    whole = json.dumps(reply.content[index]["input"])
    return replace(reply, broken_at=index, broken_input=whole[: len(whole) // 2] + " <oops> }}")


def _stop_at_sequence(reply: Reply, sequences: list[str]) -> Reply:
    for index, block in enumerate(reply.content):
        if block["type"] != "text":
            continue
        found = [(block["text"].find(sequence), sequence) for sequence in sequences if sequence in block["text"]]
        if found:
            at, sequence = min(found)
            kept = reply.content[:index] + ([block | {"text": block["text"][:at]}] if at else [])
            return replace(reply, content=kept, stop_reason="stop_sequence", stop_sequence=sequence)
    return reply


def _cut_last_block(reply: Reply, *, shorten_text: bool) -> Reply:
    index = len(reply.content) - 1
    last = reply.content[index] if reply.content else {"type": "none"}
    if last["type"] == "tool_use":
        return _cut_call(reply, index, len(json.dumps(last["input"])) // 2)
    if last["type"] == "text" and shorten_text:
        reply = _with_block(reply, index, text=last["text"][: max(1, len(last["text"]) // 2)])
    return replace(reply, stop_reason="max_tokens")


def _cut_to(reply: Reply, max_tokens: int) -> Reply:
    """The answer within the request's max_tokens, cut where they run out."""
    left = max_tokens
    for index, block in enumerate(reply.content):
        cost = block_tokens(block)
        if cost <= left:
            left -= cost
            continue
        short = replace(reply, content=reply.content[: index + 1], stop_reason="max_tokens", stop_sequence=None)
        characters = left * CHARACTERS_PER_TOKEN
        match block["type"]:
            case "tool_use":
                return _cut_call(short, index, characters)
            case "text" if characters:
                return _with_block(short, index, text=block["text"][:characters])
            case _:  # an unfinished thought has no signature: leave it out, as everything that cannot be cut
                return replace(short, content=reply.content[:index])
    return reply


def _cut_call(reply: Reply, index: int, characters: int) -> Reply:
    """The call with its arguments broken off; its `input` is what can be read of them, as the client makes it."""
    text = json.dumps(reply.content[index]["input"])[: max(1, characters)]
    partial = from_json(text, allow_partial=True)
    reply = _with_block(reply, index, input=partial)
    return replace(reply, stop_reason="max_tokens", broken_at=index, broken_input=text)
