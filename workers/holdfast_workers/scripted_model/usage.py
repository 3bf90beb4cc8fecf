"""Plausible token counts: a token is four characters, and the cache is simulated from the request alone.

The first request of a conversation writes the cache up to its last `cache_control`; a later one reads what the
request before it ended with and writes the rest. The same request always gets the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast_workers.scripted_model.conversation import blocks

CHARACTERS_PER_TOKEN = 4
MINIMUM_CACHED = 1024  # tokens; the API caches no shorter prefix


def tokens(value: Any) -> int:
    """Estimated tokens of a text, or of anything else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def input_tokens(body: Mapping[str, Any]) -> int:
    return sum(tokens(body[part]) for part in ("tools", "system", "messages") if body.get(part))


def usage(body: Mapping[str, Any], content: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The `usage` object of the answer `content` to the request `body`."""
    total = input_tokens(body)
    read, created = _cached(body)
    searches = sum(block.get("name") == "web_search" for block in content if block.get("type") == "server_tool_use")
    return {
        "input_tokens": total - read - created,
        "cache_creation_input_tokens": created,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": created, "ephemeral_1h_input_tokens": 0},
        "output_tokens": max(1, sum(block_tokens(block) for block in content)),
        "service_tier": "standard",
        **({"server_tool_use": {"web_search_requests": searches, "web_fetch_requests": 0}} if searches else {}),
    }


def block_tokens(block: Mapping[str, Any]) -> int:
    kind = block.get("type")
    if kind in ("text", "thinking"):
        return tokens(block[str(kind)])
    return tokens(block.get("input", "")) + 8 if kind == "tool_use" else tokens(block)


def _cached(body: Mapping[str, Any]) -> tuple[int, int]:
    """(read, created) tokens."""
    marked = _last_marked(body)
    if marked is None:
        return 0, 0
    messages = body["messages"]
    prefix = sum(tokens(body[part]) for part in ("tools", "system") if body.get(part))
    upto = prefix + tokens(messages[: marked + 1]) if marked >= 0 else prefix
    if upto < MINIMUM_CACHED:
        return 0, 0
    answers = [index for index, message in enumerate(messages) if message.get("role") == "assistant"]
    if not answers:
        return 0, upto
    before = min(upto, prefix + tokens(messages[: answers[-1]]))
    return (before, upto - before) if before >= MINIMUM_CACHED else (0, upto)


def _last_marked(body: Mapping[str, Any]) -> int | None:
    """Index of the last message with a breakpoint; -1 if only tools or system have one; None without any."""
    messages = body["messages"]
    for index in range(len(messages) - 1, -1, -1):
        if any("cache_control" in block for block in blocks(messages[index])):
            return index
    if body.get("cache_control"):  # the request-wide form marks its last block
        return len(messages) - 1
    system = body.get("system")
    parts = [*(body.get("tools") or []), *(system if isinstance(system, list) else [])]
    return -1 if any("cache_control" in part for part in parts) else None
