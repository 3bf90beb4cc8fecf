"""Spans around the attempts of turns and calls, opened by a worker interceptor.

A span joins the trace that the activity's input carries and is the active one while the attempt runs, so what the
activity calls (the model's client, a tool's HTTP requests) joins it too. Activities need not know of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from holdfast import ids
from holdfast.contracts import CallOutcome, ExecuteCall, ModelTurn, TurnResult
from holdfast_workers.telemetry import names
from holdfast_workers.telemetry.carrier import incoming

Attributes = Mapping[str, str | int | float]


class ActivitySpans(Interceptor):
    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Inbound(next, self._tracer)


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, tracer: Tracer) -> None:
        super().__init__(next)
        self._tracer = tracer

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        request = input.args[0] if input.args else None
        match request:
            case ModelTurn():
                name, kind, attributes = "chat", SpanKind.CLIENT, turn_attributes(request)
            case ExecuteCall():
                name, kind = names.CALL_SPAN.format(tool=request.tool), SpanKind.INTERNAL
                attributes = call_attributes(request)
            case _:
                return await self.next.execute_activity(input)
        with self._tracer.start_as_current_span(
            name,
            context=incoming(request.trace, otherwise=request.saga.id),
            kind=kind,
            attributes=attributes,
            record_exception=False,  # an exception's message may quote what was said
            set_status_on_exception=False,
        ) as span:
            try:
                result = await self.next.execute_activity(input)
            except BaseException as error:
                mark_failed(span, error)
                raise
            mark_result(span, result)
            return result


def turn_attributes(request: ModelTurn) -> Attributes:
    path = ids.turn_path(request.turn)
    return {
        names.OPERATION: "chat",
        names.CONVERSATION: request.session_id,
        names.TURN: request.turn,
        names.EFFECT_ID: ids.effect_id(request.session_id, path, request.head),
    }


def call_attributes(request: ExecuteCall) -> Attributes:
    path = ids.call_path(request.turn, request.tool_use_id)
    return {
        names.OPERATION: "execute_tool",
        names.CONVERSATION: request.session_id,
        names.TOOL_NAME: request.tool,
        names.TOOL_CALL_ID: request.tool_use_id,
        names.TOOL_TYPE: "function",
        names.TURN: request.turn,
        names.CALL: request.call,
        names.EFFECT_ID: ids.effect_id(request.session_id, path, request.head),
    }


def mark_failed(span: Span, error: BaseException) -> None:
    """Name the error by its type alone. One that is ordinary business (busy, stopped) is no failed span."""
    kind = error.type if isinstance(error, ApplicationError) and error.type else type(error).__name__
    benign = isinstance(error, ApplicationError) and error.category is ApplicationErrorCategory.BENIGN
    attempted = not _name_error(span, kind)
    if attempted or not (benign or isinstance(error, asyncio.CancelledError)):
        span.set_status(Status(StatusCode.ERROR))


def mark_result(span: Span, result: object) -> None:
    match result:
        case CallOutcome():
            span.set_attribute(names.OUTCOME, result.status)
            if result.code is not None:
                _name_error(span, result.code)
            if result.status in ("error", "unknown"):
                span.set_status(Status(StatusCode.ERROR))
        case TurnResult() if result.failed is not None or result.held is not None:
            span.set_status(Status(StatusCode.ERROR))


def _name_error(span: Span, kind: str) -> bool:
    """Set `error.type`, unless the attempt's own report named the error already, which is closer to it."""
    if isinstance(span, ReadableSpan) and names.ERROR_TYPE in (span.attributes or {}):
        return False
    span.set_attribute(names.ERROR_TYPE, kind)
    return True
