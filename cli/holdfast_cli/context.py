"""What the model was sent in a turn, as a person reads it: nothing is left out, nothing can move the cursor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from holdfast_cli.output import cell, clean, to_json

if TYPE_CHECKING:
    from holdfast_activities.messages_api.sent import Sent

FIELDS = {
    "session_id": "its id",
    "turn": "the turn",
    "model_answered": "the model that answered; the one asked is in `request`",
    "input_tokens": "tokens read, cached ones included, as the API counted them",
    "cache_read_tokens": "of them read from the cache",
    "output_tokens": "tokens written",
    "left_out": "messages that the agent's memory kept back",
    "stubbed": "tool results that it kept back",
    "counted": "tokens that it would have had, where memory made room for this very turn; null where it did not",
    "headers": "sent beside the request",
    "request": "the body, as the Messages API got it",
    "digest": "of the request, built again from what is stored",
    "recorded_digest": "of the request that was sent",
    "matches": "whether both are the same",
}
MATCHES = "digest matches what was sent"
DIFFERS = "digest differs from what was sent: this is not what the model saw"


def record(session_id: str, sent: Sent) -> dict[str, Any]:
    usage = sent.turn.usage
    return {
        "session_id": session_id,
        "turn": sent.turn.turn,
        "model_answered": sent.turn.model_answered,
        "input_tokens": usage.asked,
        "cache_read_tokens": usage.cache_read,
        "output_tokens": usage.output,
        "left_out": sent.left_out,
        "stubbed": sent.stubbed,
        "counted": sent.counted,
        "headers": dict(sent.headers),
        "request": dict(sent.params),
        "digest": sent.digest,
        "recorded_digest": sent.turn.request_digest,
        "matches": sent.matches,
    }


def verdict(sent: Sent) -> str:
    if sent.matches:
        return f"{MATCHES} ({sent.digest[:12]})"
    return (
        f"{DIFFERS} ({sent.digest[:12]}, sent was {sent.turn.request_digest[:12]}). Another version of Holdfast "
        "builds requests otherwise, or what is stored was changed: `holdfast ledger verify` tells."
    )


def told(sent: Sent) -> Iterator[str]:
    params = dict(sent.params)
    system, tools, messages = params.pop("system", []), params.pop("tools", []), params.pop("messages")
    usage = sent.turn.usage
    yield f"turn {sent.turn.turn}: {usage.asked} tokens in, {usage.cache_read} of them from the cache"
    if sent.left_out or sent.stubbed:
        yield f"kept back by the agent's memory: {sent.left_out} messages, {sent.stubbed} tool results"
    if sent.counted is not None:
        yield f"room was made for this very turn: it would have been {sent.counted} tokens"
    yield from (f"{name}: {cell(to_json(value))}" for name, value in {**params, **sent.headers}.items())
    yield from _section("system", system)
    for tool in tools:
        yield from _section(f"tool {cell(tool.get('name'))}", [tool])
    for message in messages:
        yield from _section(message["role"], message["content"])
    yield ""


def _section(name: str, blocks: list[Mapping[str, Any]]) -> Iterator[str]:
    yield ""
    yield click.style(name, bold=True)
    for block in blocks:
        yield from (f"  {line}" for line in _lines(block))


def _lines(block: Mapping[str, Any]) -> Iterator[str]:
    """A text as it is; of every other block all its fields."""
    rest = {name: value for name, value in block.items() if name not in ("type", "text")}
    if block.get("type") != "text":
        yield clean(to_json(block))
        return
    yield from clean(str(block["text"])).splitlines()
    if rest:
        yield click.style(clean(to_json(rest)), dim=True)
