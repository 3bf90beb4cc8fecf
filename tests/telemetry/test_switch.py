"""When telemetry is on, where it goes, and what is refused with words."""

from __future__ import annotations

from datetime import timedelta

import pytest

from holdfast_workers.telemetry.ambient import trace_from_env
from holdfast_workers.telemetry.core_metrics import metrics_endpoint
from holdfast_workers.telemetry.switch import TelemetryInvalid, TelemetrySwitch

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("environ", "traces", "metrics"),
    [
        ({}, None, None),
        ({"OTEL_SERVICE_NAME": "shop"}, None, None),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp", None),
        ({"OTEL_TRACES_EXPORTER": " Console "}, "console", None),
        ({"OTEL_METRICS_EXPORTER": "console"}, None, "console"),
        ({ENDPOINT: "http://collector:4318"}, "otlp", "otlp"),
        ({ENDPOINT: "http://collector:4318", "OTEL_METRICS_EXPORTER": "none"}, "otlp", None),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4318/m"}, None, "otlp"),
        ({ENDPOINT: "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, None, None),
        ({"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_SDK_DISABLED": "TRUE"}, None, None),
    ],
)
def test_a_signal_is_on_where_its_variables_say_so(environ, traces, metrics):
    switch = TelemetrySwitch.from_env(environ)
    assert (switch.traces, switch.metrics) == (traces, metrics)
    assert switch.on == bool(traces or metrics)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is `zipkin`"),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, "otlp, console or none"),
        ({ENDPOINT: "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
        ({ENDPOINT: "http://c:4318", "OTEL_METRIC_EXPORT_INTERVAL": "1m"}, "milliseconds"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_what_can(environ, said):
    with pytest.raises(TelemetryInvalid, match=said):
        TelemetrySwitch.from_env(environ)


def test_a_signals_own_protocol_wins_over_the_general_one():
    environ = {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
    }
    assert TelemetrySwitch.from_env(environ).traces == "otlp"


def test_the_export_interval_is_the_standards():
    assert TelemetrySwitch.from_env({}).interval == timedelta(seconds=60)
    assert TelemetrySwitch.from_env({"OTEL_METRIC_EXPORT_INTERVAL": "250"}).interval == timedelta(milliseconds=250)


def test_the_core_exports_to_the_same_collector():
    assert metrics_endpoint({ENDPOINT: "http://collector:4318/"}) == "http://collector:4318/v1/metrics"
    assert metrics_endpoint({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://m/x"}) == "http://m/x"
    assert metrics_endpoint({}) == "http://localhost:4318/v1/metrics"


def test_a_trace_is_taken_from_the_environment_and_a_malformed_one_is_not():
    assert trace_from_env({"TRACEPARENT": PARENT}) == {"traceparent": PARENT}
    assert trace_from_env({"TRACEPARENT": PARENT, "TRACESTATE": "a=1"}) == {
        "traceparent": PARENT,
        "tracestate": "a=1",
    }
    assert trace_from_env({"TRACEPARENT": PARENT + "\r\nAuthorization: x"}) == {}
    assert trace_from_env({"TRACESTATE": "a=1"}) == {}
