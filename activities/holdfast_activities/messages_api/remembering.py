"""What of a transcript is sent, by the agent's memory strategy: a pure function of the stored messages.

Sizes are the API's own counts, stored with each turn: of the turn itself, and of a request that was too long before
it was made shorter. A step once taken stays taken on every worker and attempt, since it follows from those alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from holdfast.memory import Memory
from holdfast.messages import SUMMARY_ID
from holdfast.states import CallStatus
from holdfast_activities.messages_api.steps import StepsTaken
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
    known: int | None = None
    """Tokens of all but what came after the newest answer, as the API counted them; None where it never did."""
    room_above: int | None = None
    """A request of more tokens than this is to be made shorter before it is sent. None: it could not be."""


def remembered(
    transcript: Sequence[StoredMessage],
    memory: Memory,
    counted: int | None = None,
    earlier: StepsTaken | None = None,
) -> Remembered:
    """Apply the strategy to all messages up to the turn's head, oldest first.

    Args:
        counted: tokens of the request without this step; it did not fit, so another step is taken for it.
        earlier: what is known of earlier turns' steps; changes how long this takes, and nothing else.
    """
    match memory.strategy:
        case "window" | "prune_results":
            steps = (earlier or StepsTaken()).up_to(transcript, memory)
            if counted is not None:
                steps.before_turn(counted)
            kept = (_window if memory.strategy == "window" else _pruned)(transcript, steps.boundary)
            return replace(kept, known=steps.known, room_above=steps.room_above)
        case "summarise":
            kept = _from_summary(transcript)
            return _shortened(kept, counted)
        case "full" | "api":
            return Remembered(messages=tuple(transcript), known=_last_count(transcript))


def _shortened(kept: Remembered, counted: int | None) -> Remembered:
    """Where a turn did not fit before its summary could be asked for: with stubs, up to the newest answer."""
    messages = kept.messages
    boundary = newest = 0
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        boundary = newest if message.counted is not None else boundary
        newest = index
    if counted is not None:
        boundary = len(messages) if (messages[-1].message_id or "").startswith(SUMMARY_ID) else newest
    known = _last_count(messages) if counted is None else None
    return replace(_pruned(messages, boundary), left_out=kept.left_out, known=known)


def _last_count(messages: Sequence[StoredMessage]) -> int | None:
    """What the API counted in the turn of the newest answer; nothing where that was a summary of what is gone."""
    newest = next((i for i in range(len(messages) - 1, -1, -1) if messages[i].role == "assistant"), None)
    if newest is None or (newest == 1 and (messages[0].message_id or "").startswith(SUMMARY_ID)):
        return None
    return messages[newest].context


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
