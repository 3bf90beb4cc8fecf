"""The HTTP side: operations become routes, headers become a `Request`, faults strike before or after.

What is carried out never waits: stalls happen outside the database transaction, so a stalled request
holds up nobody else.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from travel_desk.services import bookings, hotel, mail, payments, request_log, seats, seed
from travel_desk.services.effects import Answer, Effects
from travel_desk.services.faults import Fault, Faults
from travel_desk.services.operations import Operation, Refusal, Request
from travel_desk.services.store import Store

OPERATIONS = (
    *bookings.OPERATIONS,
    *seats.OPERATIONS,
    *hotel.OPERATIONS,
    *payments.OPERATIONS,
    *mail.OPERATIONS,
)
ANSWERED_BY_FAULT = {
    "fail_500": JSONResponse({"error": {"code": "internal", "message": "the service failed"}}, 500),
    "fail_before": JSONResponse(
        {"error": {"code": "unavailable", "message": "the service is unavailable"}}, 503, {"Retry-After": "1"}
    ),
}
INJECTED_REFUSAL = Refusal(402, "payment_required", "the service refuses this request")

Drop = Callable[[Scope], None]
"""Cuts the connection a request came in on."""

_faults = TypeAdapter(list[Fault])


class Seed(BaseModel):
    """`POST /_seed`: how many bookings to add for a load test."""

    model_config = ConfigDict(extra="forbid")
    bookings: int = Field(ge=0, le=100_000)


class Desk:
    """The endpoints of one running desk."""

    def __init__(self, store: Store, *, drop: Drop) -> None:
        self._store = store
        self._effects = Effects(store)
        self._faults = Faults()
        self._drop = drop
        self._in_flight: set[object] = set()
        with store.transaction() as db:
            seed.plant(db)

    def app(self) -> Starlette:
        routes = [Route(op.path, self._endpoint(op), methods=[op.method]) for op in OPERATIONS]
        routes += [
            Route("/healthz", self._healthz),
            Route("/effects/{key}", self._look_up),
            Route("/effects/{key}/refuse", self._refuse, methods=["POST"]),
            Route("/_faults", self._inject, methods=["GET", "POST", "DELETE"]),
            Route("/_log", self._log),
            Route("/_log/summary", self._summary),
            Route("/_seed", self._seed, methods=["POST"]),
            Route("/_restore", self._restore, methods=["POST"]),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _http_error, ValidationError: _invalid})

    def _endpoint(self, operation: Operation) -> Callable[[HttpRequest], Awaitable[Response]]:
        async def endpoint(http: HttpRequest) -> Response:
            request = await _request(operation, http)
            fault = self._faults.take(http.method, http.url.path, request.key)
            if fault is None:
                return self._answer(request)
            if fault.kind in ANSWERED_BY_FAULT:
                return ANSWERED_BY_FAULT[fault.kind]
            if fault.kind == "drop_before":
                return self._cut(http)
            if fault.kind == "stall_before":
                return await self._answer_late(request, fault.seconds)

            response = self._answer(request, refusal=INJECTED_REFUSAL if fault.kind == "refuse_402" else None)
            if fault.kind == "fail_after":
                return ANSWERED_BY_FAULT["fail_500"]
            if fault.kind == "drop_after":
                return self._cut(http)
            if fault.kind == "stall_after":
                await asyncio.sleep(fault.seconds)
            return response

        return endpoint

    def _answer(self, request: Request, *, refusal: Refusal | None = None) -> Response:
        if request.operation.reads_only:
            return _json(self._effects.read(request))
        if request.key in self._in_flight:
            return _error(409, "key_in_flight", f"a request with the key `{request.key}` is being carried out")
        return _json(self._effects.carry_out(request, refusal=refusal))

    async def _answer_late(self, request: Request, seconds: float) -> Response:
        if request.key in self._in_flight:
            return self._answer(request)
        flight = request.key or object()  # without a key a request stands for itself
        self._in_flight.add(flight)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._in_flight.discard(flight)
        return self._answer(request)

    def _cut(self, http: HttpRequest) -> Response:
        self._drop(http.scope)
        return Response(status_code=500)  # goes nowhere: the connection is closed

    async def _healthz(self, http: HttpRequest) -> Response:
        return JSONResponse({"status": "ok"})

    async def _look_up(self, http: HttpRequest) -> Response:
        return JSONResponse(self._effects.look_up(http.path_params["key"]))

    async def _refuse(self, http: HttpRequest) -> Response:
        return JSONResponse(self._effects.refuse(http.path_params["key"]))

    async def _inject(self, http: HttpRequest) -> Response:
        if http.method == "POST":
            self._faults.add(_faults.validate_json(await http.body()))
        elif http.method == "DELETE":
            self._faults.clear()
        return JSONResponse([fault.model_dump() for fault in self._faults.pending()])

    async def _log(self, http: HttpRequest) -> Response:
        with self._store.transaction(durable=False) as db:
            return JSONResponse(request_log.entries(db, since=_since(http)))

    async def _summary(self, http: HttpRequest) -> Response:
        with self._store.transaction(durable=False) as db:
            return JSONResponse(request_log.summary(db, since=_since(http)))

    async def _seed(self, http: HttpRequest) -> Response:
        wanted = Seed.model_validate_json(await http.body())
        with self._store.transaction() as db:
            return JSONResponse({"booking_ids": seed.add_bookings(db, wanted.bookings)})

    async def _restore(self, http: HttpRequest) -> Response:
        with self._store.transaction() as db:
            seed.restore(db)
        return JSONResponse({"restored": True})


async def _request(operation: Operation, http: HttpRequest) -> Request:
    """Raises `ValidationError` or `HTTPException` for arguments the operation does not take."""
    given = dict(http.query_params) if operation.reads_only else await _json_body(http)
    return Request(
        operation=operation,
        path=http.url.path,
        arguments=operation.arguments.model_validate({**given, **http.path_params}),
        key=http.headers.get("idempotency-key"),
        who=http.headers.get("x-on-behalf-of") or http.headers.get("user-agent"),
        traceparent=http.headers.get("traceparent"),
    )


async def _json_body(http: HttpRequest) -> dict[str, object]:
    raw = await http.body()
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "the body must be a JSON object")
    return body


def _since(http: HttpRequest) -> int:
    try:
        return int(http.query_params.get("since", "0"))
    except ValueError as error:
        raise HTTPException(400, "`since` is the number of a log entry, e.g. 12") from error


def _json(answer: Answer) -> Response:
    headers = {"Idempotency-Replayed": "true"} if answer.replayed else None
    return JSONResponse(answer.body, answer.status, headers)


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status)


async def _http_error(http: HttpRequest, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return _error(error.status_code, "bad_request" if error.status_code == 400 else "not_found", error.detail)


async def _invalid(http: HttpRequest, error: Exception) -> Response:
    if not isinstance(error, ValidationError):
        raise error
    problems = [f"{'.'.join(map(str, found['loc'])) or 'arguments'}: {found['msg']}" for found in error.errors()]
    return _error(422, "invalid", "; ".join(problems))
