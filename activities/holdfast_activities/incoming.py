"""The messages a turn brings along, as rows of the transcript: each continues the head before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from holdfast import ids
from holdfast.contracts import CallRef, ModelTurn, Results, UserMessage
from holdfast.errors import EffectConflict
from holdfast.states import CallStatus
from holdfast_ledger.records import Incoming


def incoming_messages(request: ModelTurn) -> tuple[Incoming, ...]:
    """The rows to append before the turn, oldest first.

    Raises:
        EffectConflict: when they do not lead from `parent` to `head`.
    """
    rows = tuple(_rows(request))
    head = rows[-1].head if rows else request.parent
    if head != request.head:
        raise EffectConflict(
            f"turn {request.turn}: its messages lead to head {head[:12]}, the session expects {request.head[:12]}"
        )
    return rows


def _rows(request: ModelTurn) -> Iterator[Incoming]:
    parent = request.parent
    for message in request.incoming:
        row = (
            _user(message, parent, request.turn)
            if isinstance(message, UserMessage)
            else _results(message, parent, request)
        )
        yield row
        parent = row.head


def _user(message: UserMessage, parent: str, turn: int) -> Incoming:
    return Incoming(
        head=ids.next_head(parent, message.digest),
        parent=parent,
        role="user",
        digest=message.digest,
        turn=turn,
        message_id=message.id,
        body=None if message.text is None else ids.canonical(message.text),
    )


def _results(message: Results, parent: str, request: ModelTurn) -> Incoming:
    references = [_reference(call, message, request.session_id) for call in message.calls]
    return Incoming(
        head=ids.next_head(parent, message.digest),
        parent=parent,
        role="results",
        digest=message.digest,
        turn=request.turn,
        body=ids.canonical(references),
        effects=tuple(
            each["effect_id"] for each in references if "effect_id" in each and each["status"] == CallStatus.OK
        ),
    )


def _reference(call: CallRef, results: Results, session_id: str) -> dict[str, Any]:
    """Names the row that holds the result, or carries the text where no row does."""
    reference: dict[str, Any] = {"tool_use_id": call.tool_use_id, "status": str(call.status)}
    if call.text is not None:
        return reference | {"text": call.text}
    path = ids.call_path(results.turn, call.tool_use_id)
    return reference | {"effect_id": ids.effect_id(session_id, path, results.turn_head)}
