"""What a request's messages tell: the user's texts, the results that came back, and which conversation it is.

Read-only views on the raw messages; nothing here knows scenarios.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast.states import CallStatus

Block = Mapping[str, Any]
Message = Mapping[str, Any]

NOT_CALLED = "not_called"
NOTE = "[Holdfast: "
"""How a text of the session's own begins: no user wrote it, and it opens nothing."""

_STATUSES = frozenset(status.value for status in CallStatus)
_CONTINUE = re.compile(r"\b(?:continue|carry on|go on|keep going)\b", re.IGNORECASE)
_CONTINUE_LENGTH = 160  # a longer text is about something
# An error's text says what kind it is; without one of these words it is a plain error.
_STATUS_WORDS = (
    (CallStatus.DENIED, re.compile(r"\bden(?:ied|ies)\b|\bnot approved\b|\bnobody decided\b", re.IGNORECASE)),
    (CallStatus.UNKNOWN, re.compile(r"\bunknown:|\bis unknown\b|\bnot known whether\b", re.IGNORECASE)),
    (CallStatus.CANCELLED, re.compile(r"\b(?:cancell?ed|interrupted|aborted)\b", re.IGNORECASE)),
)
_LEAD = re.compile(r"^(?:\W*error|[^\n]{0,80}?\b(?:denied|unknown|cancell?ed))\b[^:\n]{0,60}:\s*", re.IGNORECASE)


@dataclass(frozen=True)
class UserText:
    """One text a user wrote. `goes_on`: it rides on work in progress (steering, "continue") and opens nothing."""

    index: int
    text: str
    goes_on: bool


class _ByTool(dict[str, str]):
    """Answers for tools that were not called, too."""

    def __init__(self, default: str) -> None:
        super().__init__()
        self._default = default

    def __missing__(self, name: str) -> str:
        return self._default


@dataclass
class Results:
    """What came back so far, by tool name; fed message by message."""

    latest: dict[str, Any] = field(default_factory=dict)
    every: dict[str, list[Any]] = field(default_factory=dict)
    outcome: dict[str, str] = field(default_factory=lambda: _ByTool(NOT_CALLED))
    reason: dict[str, str] = field(default_factory=lambda: _ByTool(""))
    _names: dict[str, str] = field(default_factory=dict)

    def feed(self, message: Message) -> None:
        for block in blocks(message):
            if block.get("type") == "tool_use":
                self._names[block["id"]] = block["name"]
            elif block.get("type") == "tool_result":
                self._take(block)

    def _take(self, block: Block) -> None:
        name = self._names.get(block["tool_use_id"])
        if name is None:
            return
        text = result_text(block)
        status = call_status(block)
        self.outcome[name] = status
        self.reason[name] = "" if status is CallStatus.OK else _reason(text)
        value = _parsed(text)
        self.every.setdefault(name, []).append(value)
        if status is CallStatus.OK:
            self.latest[name] = value


def blocks(message: Message) -> Sequence[Block]:
    content = message.get("content", "")
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content if isinstance(content, list) else []


def user_texts(messages: Sequence[Message]) -> list[UserText]:
    """The user's texts, oldest first. Neighbouring user messages count as one, as in the API."""
    texts: list[UserText] = []
    in_progress = False
    for index, message in enumerate(messages):
        if message.get("role") != "user":
            in_progress = False
            continue
        results = [block for block in blocks(message) if block.get("type") == "tool_result"]
        if results:
            # After a cancelled call nothing is in progress: what the user says next is a new matter.
            in_progress = not any(call_status(block) is CallStatus.CANCELLED for block in results)
        given = [block["text"] for block in blocks(message) if block.get("type") == "text"]
        text = "\n".join(each for each in given if not each.startswith(NOTE))
        if text:
            texts.append(UserText(index, text, goes_on=in_progress or _means_continue(text)))
    return texts


def _means_continue(text: str) -> bool:
    return len(text) <= _CONTINUE_LENGTH and _CONTINUE.search(text) is not None


def call_status(block: Block) -> CallStatus:
    """How a call ended, read from its tool_result as a model would read it."""
    if not block.get("is_error"):
        return CallStatus.OK
    text = result_text(block)
    parsed = _parsed(text)
    if isinstance(parsed, dict):
        error = parsed.get("error", parsed)
        code = str(error.get("code", error.get("status", ""))) if isinstance(error, dict) else ""
        if code in _STATUSES:
            return CallStatus(code)
    head = text[:200]
    return next((status for status, words in _STATUS_WORDS if words.search(head)), CallStatus.ERROR)


def result_text(block: Block) -> str:
    content = block.get("content", "")
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content if part.get("type") == "text")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _reason(text: str) -> str:
    parsed = _parsed(text)
    if isinstance(parsed, dict):
        error = parsed.get("error", parsed)
        if isinstance(error, dict):
            return str(error.get("reason") or error.get("message") or text)
        return str(error)
    return _LEAD.sub("", text).strip()


def digest(messages: Sequence[Message]) -> str:
    """One conversation up to one point: the same messages have the same digest, whoever sends them."""
    canonical = json.dumps(messages, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


_ALPHABET = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def made_id(prefix: str, *parts: object) -> str:
    """An id such as the API makes, but following from `parts`: `toolu_01...`, 24 characters after the prefix."""
    number = int.from_bytes(hashlib.sha256("\x00".join(map(str, parts)).encode()).digest(), "big")
    return f"{prefix}_01" + "".join(_digits(number, 22))


def _digits(number: int, count: int) -> Iterator[str]:
    for _ in range(count):
        number, rest = divmod(number, len(_ALPHABET))
        yield _ALPHABET[rest]
