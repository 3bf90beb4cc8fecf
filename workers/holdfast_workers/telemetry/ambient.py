"""The trace context of whoever calls us, found without importing OpenTelemetry where nobody uses it."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
TRACESTATE = re.compile(r"[\x20-\x7e]{0,512}")


def ambient_trace() -> dict[str, str]:
    """The trace context of the active span, ours or the application's; empty where there is none."""
    if "opentelemetry.sdk.trace" not in sys.modules:
        return {}  # without an SDK in this process no span is ever active
    from holdfast_workers.telemetry.carrier import outgoing

    return outgoing()


def trace_from_env(environ: Mapping[str, str]) -> dict[str, str]:
    """`TRACEPARENT` and `TRACESTATE`, by which a shell or a CI job hands its trace on; empty where malformed."""
    parent, state = environ.get("TRACEPARENT", ""), environ.get("TRACESTATE", "")
    if not TRACEPARENT.fullmatch(parent):
        return {}
    return {"traceparent": parent} | ({"tracestate": state} if state and TRACESTATE.fullmatch(state) else {})
