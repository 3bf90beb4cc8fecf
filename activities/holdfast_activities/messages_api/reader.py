"""Reading one streamed answer over the real client: one request, no retries, raw events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from holdfast_activities.messages_api.answer import Answer, Piece
from holdfast_activities.messages_api.failures import StreamCutShort, StreamError
from holdfast_activities.messages_api.request import ModelRequest

if TYPE_CHECKING:
    from holdfast_activities.messages_api.client import ModelClient


async def read_answer(
    client: ModelClient,
    request: ModelRequest,
    *,
    idempotency_key: str,
    into: Answer,
    show: Callable[[Piece], None],
) -> None:
    """Send the request and grow `into` until the API says that the answer is whole. Cancelling closes the stream.

    Args:
        idempotency_key: sent along for gateways that dedupe; the Messages API itself does not.
        show: called with each piece as it comes; must not block.

    Raises:
        StreamCutShort: when the stream ends before `message_stop`.
        Exception: whatever the client raises; see `failures.classify`.
    """
    from anthropic import AsyncStream

    headers = {**request.headers, "idempotency-key": idempotency_key}
    create: Any = client.messages.with_streaming_response.create  # its types know no raw blocks
    async with create(stream=True, extra_headers=headers, **request.params) as response:
        async for event in await response.parse(to=AsyncStream[object]):
            if isinstance(event, Mapping) and (piece := _take(into, event)) is not None:
                show(piece)
    if not into.complete:
        raise StreamCutShort("the stream ended before message_stop")


def _take(answer: Answer, event: Mapping[str, Any]) -> Piece | None:
    if event.get("type") == "error":  # from a gateway that does not name its events
        error = event.get("error") or {}
        raise StreamError(str(error.get("type", "")), str(error.get("message", "")))
    return answer.take(event)
