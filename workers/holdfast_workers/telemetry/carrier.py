"""W3C trace context as the plain mapping that messages and activity inputs carry.

The workflow only copies this mapping, so it stays deterministic and needs no interceptor: one trace leads from
the command through every turn and call of the request. A request that came without one (`temporal workflow
start`) gets a trace id of its own, derived from its saga, so that its turns and calls stay together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()


def outgoing() -> dict[str, str]:
    """The trace context of the active span; empty where there is none."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier


def incoming(carried: Mapping[str, str], *, otherwise: str) -> Context:
    """The context that spans of this request join.

    Args:
        otherwise: id to derive a trace from where `carried` holds none.
    """
    context = _PROPAGATOR.extract(dict(carried), context=Context())
    if trace.get_current_span(context).get_span_context().is_valid:
        return context
    digest = hashlib.sha256(b"holdfast.trace.1" + otherwise.encode()).digest()
    derived = SpanContext(
        trace_id=int.from_bytes(digest[:16], "big"),
        span_id=int.from_bytes(digest[16:24], "big"),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    return trace.set_span_in_context(NonRecordingSpan(derived), Context())
