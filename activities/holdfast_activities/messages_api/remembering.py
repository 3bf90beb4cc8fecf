"""What of a transcript is sent, by the agent's memory strategy: a pure function of the stored messages.

Sizes are the API's own counts, stored with each turn. A step once taken stays taken on every worker and attempt,
since it follows from the messages up to it alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from holdfast.memory import Memory
from holdfast.messages import SUMMARY_ID
from holdfast.states import CallStatus
from holdfast_ledger.records import StoredMessage

LEFT_OUT = "(Earlier messages of this conversation were left out to save room.)"
STUB = '(Left out to save room. `read_result` with call "{call}" gives it back.)'
STUB_WITHOUT_CALL = "(Left out to save room.)"
NO_SUMMARY = frozenset({"interrupted", "refusal"})
_SMALLEST_STUBBED = 400
"""Characters: a shorter result is as short as its stub."""


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """What is sent of a transcript. `left_out` and `stubbed` count messages and results."""

    messages: tuple[StoredMessage, ...]
    left_out: int = 0
    stubbed: int = 0


def remembered(transcript: Sequence[StoredMessage], memory: Memory) -> Remembered:
    """Apply the strategy to all messages up to the turn's head, oldest first."""
    match memory.strategy:
        case "window":
            return _window(transcript, _boundary(transcript, memory))
        case "prune_results":
            return _pruned(transcript, _boundary(transcript, memory))
        case "summarise":
            return _from_summary(transcript)
        case "full" | "api":
            return Remembered(messages=tuple(transcript))


def _boundary(transcript: Sequence[StoredMessage], memory: Memory) -> int:
    """Index of the oldest message that the last step left as it is: an answer, or 0 before the first step."""
    answers: list[tuple[int, int]] = []
    """Those behind the boundary: index, and the tokens that it and what came before it added."""
    boundary, before, grown = 0, 0, 0
    for index, message in enumerate(transcript):
        if message.role != "assistant" or message.context is None:
            continue
        added = max(message.context - before, 0)
        before, grown = message.context, grown + added
        answers.append((index, added))
        # Where a step makes less room than it should, the next one waits: each costs the provider's cache.
        if message.context > memory.above and grown > memory.above - memory.down_to:
            boundary, kept = _step(answers, memory.down_to)
            answers = [(each, tokens) for each, tokens in answers if each >= boundary]
            grown = 0
            if memory.strategy == "window":
                before = kept  # else the rest is still sent, shorter by nobody knows how much
    return boundary


def _step(answers: Sequence[tuple[int, int]], down_to: int) -> tuple[int, int]:
    """The new boundary, and the tokens kept behind it. The newest answer is always kept."""
    boundary, kept = answers[-1]
    for index, added in reversed(answers[:-1]):
        if kept + added > down_to:
            break
        boundary, kept = index, kept + added
    return boundary, kept


def _window(transcript: Sequence[StoredMessage], boundary: int) -> Remembered:
    """From the boundary on, behind the message that opened the request it stands in."""
    opening = next((i for i in range(boundary, -1, -1) if _opens_request(transcript, i)), 0)
    if boundary == 0 or opening == boundary:
        return Remembered(messages=tuple(transcript))
    first = replace(transcript[opening], content=[*_blocks(transcript[opening].content), _text(LEFT_OUT)])
    return Remembered(messages=(first, *transcript[boundary:]), left_out=boundary - 1)


def _opens_request(transcript: Sequence[StoredMessage], index: int) -> bool:
    """Whether a request begins here: a user's message that no open call stands before."""
    if transcript[index].role != "user":
        return False
    return index == 0 or (transcript[index - 1].role == "assistant" and not _calls(transcript[index - 1].content))


def _calls(content: Iterable[dict[str, Any]]) -> bool:
    return any(block.get("type") == "tool_use" for block in content)


def _pruned(transcript: Sequence[StoredMessage], boundary: int) -> Remembered:
    stubbed = 0
    messages: list[StoredMessage] = []
    numbers: dict[str, str] = {}
    for index, message in enumerate(transcript):
        if message.role == "assistant":
            numbers = _numbers(message)
        if message.role != "results" or index >= boundary:
            messages.append(message)
            continue
        results = [_stub(result, numbers) for result in message.content]
        stubbed += sum(new is not old for new, old in zip(results, message.content, strict=True))
        messages.append(replace(message, content=results))
    return Remembered(messages=tuple(messages), stubbed=stubbed)


def _numbers(answer: StoredMessage) -> dict[str, str]:
    """Call numbers, `TURN.INDEX`, by tool_use id."""
    calls = [block["id"] for block in answer.content if block.get("type") == "tool_use"]
    return {tool_use_id: f"{answer.turn}.{index}" for index, tool_use_id in enumerate(calls, start=1)}


def _stub(result: dict[str, Any], numbers: dict[str, str]) -> dict[str, Any]:
    if result.get("status") != CallStatus.OK or len(str(result.get("text") or "")) <= _SMALLEST_STUBBED:
        return result
    call = numbers.get(result["tool_use_id"])
    return {**result, "text": STUB.format(call=call) if call else STUB_WITHOUT_CALL}


def _from_summary(transcript: Sequence[StoredMessage]) -> Remembered:
    """From the last summary on: the message that asked for it, the summary, and all that followed."""
    asked = [
        index
        for index, message in enumerate(transcript[:-1])
        if (message.message_id or "").startswith(SUMMARY_ID) and _sums_up(transcript[index + 1])
    ]
    if not asked:
        return Remembered(messages=tuple(transcript))
    return Remembered(messages=tuple(transcript[asked[-1] :]), left_out=asked[-1])


def _sums_up(answer: StoredMessage) -> bool:
    """Whether the answer can stand for what was before it; one that was interrupted or refused cannot."""
    if answer.role != "assistant" or answer.stop_reason in NO_SUMMARY:
        return False
    return any(block.get("type") == "text" and str(block["text"]).strip() for block in answer.content)


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [_text(content)] if isinstance(content, str) else [dict(block) for block in content]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
