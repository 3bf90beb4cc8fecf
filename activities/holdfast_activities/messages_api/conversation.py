"""A stored transcript as the alternating messages that the Messages API demands.

Repairs on load, and never fails: what a crash, an interrupt or a cut answer left behind must not end a session.
Each repair follows from the stored messages alone, so a later turn sends the same bytes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from holdfast.states import CallStatus
from holdfast_ledger.records import StoredMessage

CONTINUE = (
    "Your last answer was cut off at its token limit. Go on from there; a tool call that was cut did not run."
)
NO_RESULT = "This call has no recorded result; treat it as not done."
EMPTY = "(empty message)"
WITHOUT_TEXT: Mapping[str, str] = {
    CallStatus.OK: "(no output)",
    CallStatus.ERROR: "The call failed; nothing was done.",
    CallStatus.DENIED: "The call was denied; nothing was done.",
    CallStatus.CANCELLED: "The call was cancelled before it began; nothing was done.",
    CallStatus.UNKNOWN: "It is not known whether this call happened. Do not repeat it.",
}

Json = dict[str, Any]
_THOUGHTS = ("thinking", "redacted_thinking")


def alternate(transcript: Sequence[StoredMessage], *, note: str | None = None) -> list[Json]:
    """Messages of alternating roles, beginning and (but for a paused turn) ending with a user's.

    Args:
        note: text to add to the last user message.
    """
    draft = _Draft()
    for message in transcript:
        match message.role:
            case "user":
                draft.texts.extend(_user_blocks(message.content))
            case "results":
                draft.results.update({result["tool_use_id"]: result for result in message.content})
            case "assistant":
                draft.answer(message.content)
    if note is not None:
        draft.texts.append({"type": "text", "text": note})
    draft.close_user_message()
    return draft.messages


class _Draft:
    """Messages so far, and what has gathered for the next user message."""

    def __init__(self) -> None:
        self.messages: list[Json] = []
        self.results: dict[str, Mapping[str, Any]] = {}
        self.texts: list[Json] = []
        self.answered = False
        """Whether an answer has come since the last user message."""

    def answer(self, content: Iterable[Mapping[str, Any]]) -> None:
        blocks = [dict(block) for block in content if not _is_blank(block)]
        self.close_user_message()
        self.answered = True
        if not blocks:
            return
        if self._last_role == "assistant":  # the turn before was paused, this one goes on with it
            self.messages[-1]["content"].extend(blocks)
        else:
            self.messages.append({"role": "assistant", "content": blocks})

    def close_user_message(self) -> None:
        """Write what has gathered: tool results in tool_use order first, as the API demands, then texts."""
        answer = self.messages[-1]["content"] if self._last_role == "assistant" else []
        blocks = [_tool_result(block["id"], self.results) for block in answer if block.get("type") == "tool_use"]
        blocks += self.texts
        self.results, self.texts = {}, []
        if not blocks and self.answered:
            if _paused(answer):
                return
            blocks = [{"type": "text", "text": CONTINUE}]
        if blocks:
            self._append_user(blocks)

    def _append_user(self, blocks: list[Json]) -> None:
        if self._last_role == "assistant":
            content = _settled(self.messages[-1]["content"])
            if content:
                self.messages[-1]["content"] = content
            else:
                self.messages.pop()
        if self._last_role == "user":
            self.messages[-1]["content"].extend(blocks)
        else:
            self.messages.append({"role": "user", "content": blocks})
        self.answered = False

    @property
    def _last_role(self) -> str | None:
        return self.messages[-1]["role"] if self.messages else None


def _user_blocks(content: Any) -> list[Json]:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    kept = [dict(block) for block in blocks if not _is_blank(block)]
    return kept or [{"type": "text", "text": EMPTY}]


def _tool_result(tool_use_id: str, results: Mapping[str, Mapping[str, Any]]) -> Json:
    result = results.get(tool_use_id, {"status": CallStatus.ERROR, "text": NO_RESULT})
    status = result.get("status", CallStatus.ERROR)
    text = result.get("text") or WITHOUT_TEXT.get(status, NO_RESULT)
    block: Json = {"type": "tool_result", "tool_use_id": tool_use_id, "content": text}
    if status != CallStatus.OK:
        block["is_error"] = True
    return block


def _is_blank(block: Mapping[str, Any]) -> bool:
    """The API refuses text blocks without a visible character, even those it sent."""
    return block.get("type") == "text" and not str(block.get("text", "")).strip()


def _paused(content: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the API stopped in the middle of its own tools and goes on when sent the same again."""
    return bool(_dangling(content))


def _dangling(content: Sequence[Mapping[str, Any]]) -> set[str]:
    """Ids of server-side calls that have no result."""
    asked = {block["id"] for block in content if _is_server_call(block)}
    return asked - {str(block.get("tool_use_id")) for block in content}


def _is_server_call(block: Mapping[str, Any]) -> bool:
    kind = str(block.get("type"))
    return kind.endswith("_tool_use") and "id" in block


def _settled(content: list[Json]) -> list[Json]:
    """An answer that a user message follows: without server calls left open, and not ending in thoughts.

    A server call that waits for the results of own calls stays: the results complete it.
    """
    waits = any(block.get("type") == "tool_use" for block in content)
    dangling = set() if waits else _dangling(content)
    kept = [block for block in content if not (_is_server_call(block) and block["id"] in dangling)]
    while kept and kept[-1].get("type") in _THOUGHTS:
        kept.pop()
    return kept
