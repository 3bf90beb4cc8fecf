"""The API's rules for a request, as far as a client can break them: a 400 with the API's own words.

A scripted model that took anything would hide the mistakes a real one refuses.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

from holdfast_workers.scripted_model.conversation import Message, blocks

_MARK = b"holdfast-scripted:"
_REQUIRED = {"text": ("text",), "tool_use": ("id", "name", "input"), "tool_result": ("tool_use_id",)}


_COUNTED = frozenset(
    {"cache_control", "messages", "model", "output_config", "speed", "system", "thinking", "tool_choice", "tools"}
)


class BadRequest(Exception):
    """The request breaks a rule of the API; the text is the error's message."""


def check(body: Any) -> None:
    """Raises BadRequest at the first rule that the body of `POST /v1/messages` breaks."""
    if not isinstance(body, dict):
        raise BadRequest("Input should be a valid dictionary")
    for name in ("model", "messages", "max_tokens"):
        if name not in body:
            raise BadRequest(f"{name}: Field required")
    if not isinstance(body["max_tokens"], int) or body["max_tokens"] < 1:
        raise BadRequest("max_tokens: Input should be a valid integer greater than or equal to 1")
    check_messages(body["messages"])
    _check_tools(body)


def check_count(body: Any) -> None:
    """Raises BadRequest at the first rule that the body of `POST /v1/messages/count_tokens` breaks."""
    if not isinstance(body, dict):
        raise BadRequest("Input should be a valid dictionary")
    for name in body:
        if name not in _COUNTED:
            raise BadRequest(f"{name}: Extra inputs are not permitted")
    for name in ("model", "messages"):
        if name not in body:
            raise BadRequest(f"{name}: Field required")
    check_messages(body["messages"])
    _check_tools(body)


def check_messages(messages: Any) -> None:
    """Raises BadRequest at the first rule that the messages break."""
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages: at least one message is required")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
            raise BadRequest(f"messages.{index}.role: Input should be 'user' or 'assistant'")
        _check_content(index, message)
    _check_pairs(messages)


def signature(thinking: str) -> str:
    """The signature this server puts on a thinking block."""
    return base64.b64encode(_MARK + hashlib.sha256(thinking.encode()).digest()).decode()


def _check_content(index: int, message: Message) -> None:
    content = message.get("content")
    if not isinstance(content, str | list):
        raise BadRequest(f"messages.{index}.content: Field required")
    if not content and message["role"] == "user":
        raise BadRequest(f"messages.{index}: user messages must have non-empty content")
    for place, block in enumerate(blocks(message)):
        where = f"messages.{index}.content.{place}"
        if not isinstance(block, dict) or "type" not in block:
            raise BadRequest(f"{where}.type: Field required")
        for name in _REQUIRED.get(block["type"], ()):
            if name not in block:
                raise BadRequest(f"{where}.{block['type']}.{name}: Field required")
        if block["type"] == "text" and not block["text"]:
            raise BadRequest(f"{where}: text content blocks must be non-empty")
        if block["type"] == "thinking" and _is_forged(block):
            raise BadRequest(f"{where}: Invalid `signature` in `thinking` block")


def _is_forged(block: Any) -> bool:
    """Whether a block that this server signed was changed since. Signatures of others cannot be judged."""
    try:
        ours = base64.b64decode(block.get("signature", "")).startswith(_MARK)
    except ValueError:
        return False
    return ours and block["signature"] != signature(block.get("thinking", ""))


def _check_pairs(messages: Sequence[Message]) -> None:
    """Every tool_use is answered by exactly one tool_result in the next message, and nothing else is."""
    asked: list[str] = []
    for index, message in enumerate(messages):
        answered = _ids(message, "tool_result", "tool_use_id")
        _check_unanswered(index - 1, [each for each in asked if each not in answered])
        if extra := [each for each in answered if each not in asked]:
            raise BadRequest(
                f"messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks: {', '.join(extra)}. "
                "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        if len(set(answered)) != len(answered):
            raise BadRequest(f"messages.{index}: each `tool_use` must have a single result")
        asked = _ids(message, "tool_use", "id") if message["role"] == "assistant" else []
        if len(set(asked)) != len(asked):
            raise BadRequest(f"messages.{index}: `tool_use` ids must be unique")
    _check_unanswered(len(messages) - 1, asked)


def _check_unanswered(index: int, missing: Sequence[str]) -> None:
    if missing:
        raise BadRequest(
            f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
            "next message."
        )


def _ids(message: Message, kind: str, key: str) -> list[str]:
    return [str(block.get(key)) for block in blocks(message) if block.get("type") == kind]


def _check_tools(body: dict[str, Any]) -> None:
    tools = body.get("tools") or []
    names = [tool.get("name") for tool in tools if isinstance(tool, dict)]
    if len(set(names)) != len(names):
        raise BadRequest("tools: Tool names must be unique.")
    choice = body.get("tool_choice")
    if choice is None:
        return
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind not in ("auto", "any", "tool", "none"):
        raise BadRequest("tool_choice: Input tag must be one of 'auto', 'any', 'tool', 'none'")
    if kind != "none" and not tools:
        raise BadRequest("tool_choice: may only be specified while providing tools")
    if kind == "tool" and choice.get("name") not in names:
        raise BadRequest(f"Tool '{choice.get('name')}' not found in provided tools")
