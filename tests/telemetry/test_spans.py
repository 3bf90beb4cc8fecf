"""Which trace a span joins, and which spans count as failed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from holdfast.contracts import Authorization, CallOutcome, ExecuteCall, FlushFacts, SagaRef
from holdfast.states import CallStatus
from holdfast_workers.telemetry import names
from holdfast_workers.telemetry.activity_spans import ActivitySpans
from holdfast_workers.telemetry.carrier import incoming, outgoing

TRACE = "0af7651916cd43dd8448eb211c80319c"
GIVEN = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
CALL = ExecuteCall(
    session_id="s1",
    turn=1,
    head="h",
    call="1.1",
    tool_use_id="toolu_1",
    tool="refund",
    digest="d",
    catalogue="c",
    saga=SagaRef(id="s1/request-1"),
    authorization=Authorization(verdict="allow", rule="tier:read"),
    attempts=1,
    trace=GIVEN,
)


class Does(ActivityInboundInterceptor):
    """An activity that raises or returns what it is told, and notes the trace it ran in."""

    def __init__(self, end: object) -> None:
        self._end = end
        self.trace: dict[str, str] = {}

    async def execute_activity(self, input: ExecuteActivityInput) -> object:
        self.trace = outgoing()
        if isinstance(self._end, BaseException):
            raise self._end
        return self._end


class Spans:
    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    async def around(self, request: object, activity: Does) -> tuple[ReadableSpan, ...]:
        """The spans of one execution, whatever it raises."""
        inbound = ActivitySpans(self.provider.get_tracer("test")).intercept_activity(activity)
        input = ExecuteActivityInput(fn=print, args=[request], executor=None, headers={})
        with contextlib.suppress(ApplicationError, asyncio.CancelledError, ValueError):
            await inbound.execute_activity(input)
        return self._exporter.get_finished_spans()


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    yield spans
    spans.provider.shutdown()


async def test_the_activity_runs_inside_a_span_that_joins_the_carried_trace(spans):
    activity = Does(CallOutcome(status=CallStatus.OK))
    [span] = await spans.around(CALL, activity)
    assert trace.format_trace_id(span.context.trace_id) == TRACE
    assert activity.trace["traceparent"] == f"00-{TRACE}-{trace.format_span_id(span.context.span_id)}-01"
    assert span.name == "execute_tool refund"
    assert span.status.status_code is StatusCode.UNSET


async def test_an_activity_that_is_no_turn_or_call_has_no_span(spans):
    assert await spans.around(FlushFacts(session_id="s1", outbox=()), Does(None)) == ()


async def test_spans_of_a_request_without_a_trace_share_one_that_no_other_request_has(spans):
    bare = CALL.model_copy(update={"trace": {}})
    other = bare.model_copy(update={"saga": SagaRef(id="s1/request-2")})
    for request in (bare, bare, other):
        await spans.around(request, Does(CallOutcome(status=CallStatus.OK)))
    first, second, third = [span.context.trace_id for span in await spans.around(bare, Does(None))][:3]
    assert first == second != third


def test_a_malformed_trace_counts_as_none():
    malformed, none = (
        trace.get_current_span(incoming(given, otherwise="s1/request-1")).get_span_context()
        for given in ({"traceparent": "nonsense"}, {})
    )
    assert malformed == none


@pytest.mark.parametrize(
    ("end", "kind", "failed"),
    [
        (CallOutcome(status=CallStatus.OK), None, False),
        (CallOutcome(status=CallStatus.ERROR, code="permanent"), "permanent", True),
        (CallOutcome(status=CallStatus.UNKNOWN, code="unknown"), "unknown", True),
        (CallOutcome(status=CallStatus.DENIED, code="denied"), "denied", False),
        (ApplicationError("secret", type="Tool.transient"), "Tool.transient", True),
        (
            ApplicationError("secret", type="EffectBusy", category=ApplicationErrorCategory.BENIGN),
            "EffectBusy",
            False,
        ),
        (ValueError("secret"), "ValueError", True),
        (asyncio.CancelledError(), "CancelledError", False),
    ],
)
async def test_a_span_fails_by_what_became_of_the_call_and_never_quotes_it(spans, end, kind, failed):
    [span] = await spans.around(CALL, Does(end))
    assert (span.attributes or {}).get(names.ERROR_TYPE) == kind
    assert (span.status.status_code is StatusCode.ERROR) is failed
    assert "secret" not in span.to_json()
    assert span.events == ()
