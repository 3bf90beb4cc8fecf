"""Which blocks of an answer are kept: what was cut or interrupted must not leave anything half said behind.

A tool_use block that is kept will get a tool_result. So one is kept only if the model finished it and meant it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast_activities.messages_api.answer import Answer, Block

CUT = frozenset({"max_tokens", "model_context_window_exceeded"})
"""Stop reasons after which the last block is not whole, although the API closes it."""
INTERRUPTED = "(Interrupted before anything was said.)"
MAX_HEAD = 200
_SERVER_RESULT_KEY = "tool_use_id"


def kept_blocks(answer: Answer) -> list[Block]:
    """The blocks of a complete answer that go into the transcript, in order."""
    blocks = answer.ordered()
    if answer.stop_reason == "refusal":
        return [block for block in blocks if block.type != "tool_use"]
    if answer.stop_reason in CUT and blocks and not _survives_cut(blocks[-1]):
        return blocks[:-1]
    return blocks


def said_blocks(answer: Answer) -> list[Block]:
    """What an interrupted answer had said: text, whole thoughts before it, and finished work of server tools."""
    blocks = answer.ordered()
    finished = {block.content.get(_SERVER_RESULT_KEY) for block in blocks if block.whole}
    said = [block for block in blocks if _was_said(block, finished)]
    if not any(block.type == "text" for block in said):
        said.append(Block({"type": "text", "text": INTERRUPTED}, whole=True))
    return said


def head_of(content: Sequence[Mapping[str, Any]]) -> str:
    """The first words of the answer, for the details in the UI."""
    texts = (str(block.get("text", "")).strip() for block in content if block.get("type") == "text")
    words = " ".join(text for text in texts if text)
    return words if len(words) <= MAX_HEAD else words[: MAX_HEAD - 1] + "…"


def _survives_cut(block: Block) -> bool:
    if block.type == "tool_use":
        return block.malformed is None and bool(block.content.get("input"))
    if block.type == "thinking":
        return bool(block.content.get("signature"))
    return True


def _was_said(block: Block, finished: set[Any]) -> bool:
    if block.type == "text":
        return bool(str(block.content.get("text", "")).strip())
    if block.type == "tool_use" or not block.whole:
        return False
    if block.type.endswith("_tool_use"):
        return block.content.get("id") in finished
    return True
