"""The HTTP surface: the Messages API, plus what tests and people need beside it.

`POST /v1/messages`, `POST /v1/messages/count_tokens`, `GET /v1/models[/ID]`, `GET /healthz`; and, not part of the
API: `GET|DELETE /_requests` (what was asked), `GET|POST|DELETE /_faults` (what shall go wrong next).
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from holdfast_workers.scripted_model import rules, usage, wire
from holdfast_workers.scripted_model.faults import (
    ERROR_TYPES,
    FAULTS,
    Drop,
    ErrorEvent,
    Fault,
    FaultBook,
    HttpError,
    Stall,
    Truncate,
)
from holdfast_workers.scripted_model.playback import Answer, answer
from holdfast_workers.scripted_model.scenario import Scenario, ScenarioError, Source, load

MODELS = ("claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5")
RETRYABLE = (408, 409, 429)
_SECRET_HEADERS = ("x-api-key", "authorization")


class ConnectionDropped(Exception):
    """Raised to make the server close the connection in the middle of a response."""


class ApiError(Exception):
    """An answer in the API's error format."""

    def __init__(
        self, status: int, message: str, *, kind: str | None = None, headers: Mapping[str, str] | None = None
    ):
        super().__init__(message)
        self.status = status
        self.kind = kind or ERROR_TYPES.get(status, "api_error")
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class Received:
    """One request to `/v1/*`, for tests to look at."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case; credentials are replaced by `***`."""
    body: Any
    scenario: str | None = None
    position: int | None = None
    """Of the answer since the user's text, from 1."""
    fault: str | None = None


@dataclass
class Desk:
    """What one server holds. Owned by its event loop."""

    scenarios: Sequence[Scenario]
    pace: float = 1.0
    name: str | None = wire.SCRIPTED
    keep: int = 1000
    faults: FaultBook = field(default_factory=FaultBook)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server stops, so that stalls end."""
    received: deque[Received] = field(init=False)
    count: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False)

    def __post_init__(self) -> None:
        self.received = deque(maxlen=self.keep)

    def next_request_id(self) -> str:
        return f"req_scripted{next(self._numbers):012d}"

    def note(self, request: Request, body: Any, answer: Answer | None = None, fault: Fault | None = None) -> None:
        headers = {name: "***" if name in _SECRET_HEADERS else value for name, value in request.headers.items()}
        scenario = answer.scenario.name if answer and answer.scenario else None
        position = answer.position if answer and answer.scenario else None
        kind = fault.kind if fault else None
        self.received.append(Received(request.method, request.url.path, headers, body, scenario, position, kind))
        self.count += 1

    async def pause(self, seconds: float) -> None:
        """Raises ConnectionDropped when the server stops meanwhile."""
        try:
            await asyncio.wait_for(self.closing.wait(), seconds)
        except TimeoutError:
            return
        raise ConnectionDropped


def build_app(
    scenarios: Sequence[Source] = (),
    *,
    shipped: bool = True,
    pace: float = 1.0,
    keep: int = 1000,
    name: str | None = wire.SCRIPTED,
) -> Starlette:
    """The ASGI application.

    Args:
        scenarios: files, directories or YAML texts, tried before the shipped ones.
        shipped: whether the scenarios that come with Holdfast play, too.
        name: the model that answers; None answers as the one that was asked for.
        pace: factor on every `delay_ms`; 0 streams at once.
        keep: how many requests the log keeps.

    Raises:
        ScenarioError: when a scenario cannot be loaded; names file and field.
    """
    app = Starlette(
        routes=[
            Route("/v1/messages", _messages, methods=["POST"]),
            Route("/v1/messages/count_tokens", _count_tokens, methods=["POST"]),
            Route("/v1/models", _models),
            Route("/v1/models/{model_id}", _model),
            Route("/healthz", _healthz),
            Route("/_requests", _requests, methods=["GET", "DELETE"]),
            Route("/_faults", _faults, methods=["GET", "POST", "DELETE"]),
        ],
        exception_handlers={ApiError: _api_error, 404: _not_found, 405: _not_found},
    )
    app.state.desk = Desk(load(scenarios, shipped=shipped), pace=pace, keep=keep, name=name)
    return app


async def _messages(request: Request) -> ASGIApp:
    desk: Desk = request.app.state.desk
    body = await _body(request)
    try:
        rules.check(body)
        reply_to = answer(body, desk.scenarios)
    except (rules.BadRequest, ScenarioError) as error:
        desk.note(request, body)
        raise ApiError(400, str(error)) from error
    fault = desk.faults.strike(
        reply_to.turn.faults if reply_to.turn else (),
        key=_fault_key(request, body, reply_to),
        has_calls=reply_to.has_calls,
    )
    desk.note(request, body, reply_to, fault)
    if isinstance(fault, HttpError):
        raise _http_error(fault)
    if isinstance(fault, Stall) and fault.after_events == 0:
        await desk.pause(fault.seconds)
    reply = wire.compose(reply_to, body, fault, desk.name)
    headers = _headers(desk)
    if not body.get("stream"):
        return _whole(wire.message(reply), fault, headers, desk)
    events = list(wire.events(reply))
    delay = _delay(reply_to) * desk.pace
    if delay == 0 and not isinstance(fault, Stall | Truncate | Drop | ErrorEvent):
        return Response(b"".join(events), media_type="text/event-stream", headers=headers)
    return _Streamed(
        chunks=events,
        media_type="text/event-stream; charset=utf-8",
        headers=headers,
        fault=fault,
        delay=delay,
        desk=desk,
    )


@dataclass(frozen=True, kw_only=True)
class _Streamed:
    """A response in pieces, with their pauses, up to where `fault` breaks it off.

    An ASGI application of its own: starlette's streaming response adds a task group and a generator, which
    must be finalised in the loop they began in, and a test may stop the server in the middle.
    """

    chunks: Sequence[bytes]
    media_type: str
    headers: Mapping[str, str]
    fault: Fault | None
    delay: float
    desk: Desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"content-type": self.media_type, **self.headers}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        after = self.fault.after_events if isinstance(self.fault, Truncate | Drop | ErrorEvent | Stall) else None
        at = min(len(self.chunks) // 2 if after is None else after, len(self.chunks) - 1)
        for index, chunk in enumerate(self.chunks):
            if index == at and await self._broken_off(send, at):
                break
            if self.delay and b'"content_block_delta"' in chunk:
                await self.desk.pause(self.delay)
            await _write(send, chunk)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _broken_off(self, send: Send, at: int) -> bool:
        match self.fault:
            case Drop():
                raise ConnectionDropped
            case Truncate():
                return True
            case ErrorEvent(error=kind):
                error = {"type": kind, "message": f"Scripted {kind}"}
                await _write(send, wire.event("error", error=error, request_id=self.headers["request-id"]))
                return True
            case Stall(seconds=seconds) if at > 0:  # at 0 it came before the headers
                await self.desk.pause(seconds)
        return False


async def _write(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


def _whole(message: dict[str, Any], fault: Fault | None, headers: dict[str, str], desk: Desk) -> ASGIApp:
    """An answer without streaming; faults of the stream become their nearest likeness."""
    if isinstance(fault, ErrorEvent):
        raise ApiError(529 if fault.error == "overloaded_error" else 500, fault.error, kind=fault.error)
    if isinstance(fault, Truncate | Drop):
        text = json.dumps(message).encode()
        halves = [text[: len(text) // 2], text[len(text) // 2 :]]
        fault = fault.model_copy(update={"after_events": 1})
        return _Streamed(
            chunks=halves, media_type="application/json", headers=headers, fault=fault, delay=0, desk=desk
        )
    return JSONResponse(message, headers=headers)


async def _count_tokens(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    body = await _body(request)
    fault = desk.faults.strike_count()
    desk.note(request, body, fault=fault)
    if isinstance(fault, HttpError):
        raise _http_error(fault)
    if fault is not None:
        await desk.pause(fault.seconds)
    try:
        rules.check_count(body)
    except rules.BadRequest as error:
        raise ApiError(400, str(error)) from error
    return JSONResponse({"input_tokens": usage.input_tokens(body)}, headers=_headers(desk))


async def _models(request: Request) -> Response:
    data = [_model_info(model) for model in MODELS]
    page = {"data": data, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
    return JSONResponse(page, headers=_headers(request.app.state.desk))


async def _model(request: Request) -> Response:
    model = request.path_params["model_id"]
    if model not in MODELS:
        raise ApiError(404, f"model: {model}")
    return JSONResponse(_model_info(model), headers=_headers(request.app.state.desk))


def _model_info(model: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model,
        "display_name": f"{model} (scripted)",
        "created_at": "2025-11-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
    }


async def _healthz(request: Request) -> Response:
    return JSONResponse({"status": "ok", "scenarios": [each.name for each in request.app.state.desk.scenarios]})


async def _requests(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    if request.method == "DELETE":
        desk.received.clear()
        desk.count = 0
    return JSONResponse({"count": desk.count, "requests": [asdict(each) for each in desk.received]})


async def _faults(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    if request.method == "POST":
        try:
            desk.faults.inject(FAULTS.validate_json(await request.body()))
        except ValidationError as error:
            raise ApiError(400, f"faults: {error}") from error
    elif request.method == "DELETE":
        desk.faults.clear()
    return JSONResponse({"faults": [fault.model_dump(mode="json") for fault in desk.faults.injected]})


async def _body(request: Request) -> Any:
    """The JSON body, after the headers every request to the API needs.

    Raises:
        ApiError: 401 without a key, 400 without a version or with what is not JSON.
    """
    if not any(name in request.headers for name in _SECRET_HEADERS):
        raise ApiError(401, "x-api-key header is required")
    if "anthropic-version" not in request.headers:
        raise ApiError(400, "anthropic-version: header is required")
    try:
        return json.loads(await request.body())
    except ValueError as error:
        raise ApiError(400, f"The request body is not valid JSON: {error}") from error


def _fault_key(request: Request, body: Mapping[str, Any], reply_to: Answer) -> str:
    """What scripted faults are counted for.

    Conversations with equal messages are told apart by an `idempotency-key` header or by `metadata.user_id`.
    """
    whose = request.headers.get("idempotency-key") or (body.get("metadata") or {}).get("user_id", "")
    return f"{whose}|{reply_to.conversation}"


def _delay(reply_to: Answer) -> float:
    """Seconds before each chunk."""
    own = reply_to.turn.delay_ms if reply_to.turn else None
    scenario = reply_to.scenario.delay_ms if reply_to.scenario else 0
    return (scenario if own is None else own) / 1000


def _headers(desk: Desk) -> dict[str, str]:
    return {"request-id": desk.next_request_id(), "anthropic-organization-id": "scripted"}


def _http_error(fault: HttpError) -> ApiError:
    retry_after = fault.retry_after_header(datetime.now(UTC))
    headers = {"retry-after": retry_after} if retry_after is not None else {}
    kind = ERROR_TYPES.get(fault.status, "api_error")
    return ApiError(fault.status, fault.message or f"Scripted {kind}", headers=headers)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    headers = _headers(request.app.state.desk)
    retry = "true" if error.status in RETRYABLE or error.status >= 500 else "false"
    body = {
        "type": "error",
        "error": {"type": error.kind, "message": str(error)},
        "request_id": headers["request-id"],
    }
    return JSONResponse(body, error.status, headers=headers | {"x-should-retry": retry} | error.headers)


async def _not_found(request: Request, error: Exception) -> Response:
    return await _api_error(request, ApiError(404, f"{request.method} {request.url.path} is not served here"))
