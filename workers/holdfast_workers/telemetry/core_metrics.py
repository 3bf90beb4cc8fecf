"""The metrics of Temporal's core (poll latencies, slots, task failures), sent to the same collector as ours."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.util.re import parse_env_headers
from temporalio.runtime import OpenTelemetryConfig, Runtime, TelemetryConfig

from holdfast_workers.telemetry.switch import TelemetrySwitch
from holdfast_workers.temporal import core_logging

DEFAULT_ENDPOINT = "http://localhost:4318"


def core_runtime(environ: Mapping[str, str], switch: TelemetrySwitch) -> Runtime:
    """A runtime that exports over OTLP/HTTP. Everything of Temporal's in this process must use it."""
    return Runtime(
        telemetry=TelemetryConfig(
            logging=core_logging(),
            metrics=OpenTelemetryConfig(
                url=metrics_endpoint(environ),
                headers=_headers(environ),
                metric_periodicity=switch.interval,
                durations_as_seconds=True,
                http=True,
            ),
        )
    )


def metrics_endpoint(environ: Mapping[str, str]) -> str:
    """Where metrics go, by the rules of the OTLP exporter's specification."""
    if own := environ.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"):
        return own
    return (environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/") + "/v1/metrics"


def _headers(environ: Mapping[str, str]) -> dict[str, str]:
    given = environ.get("OTEL_EXPORTER_OTLP_METRICS_HEADERS") or environ.get("OTEL_EXPORTER_OTLP_HEADERS") or ""
    return dict(parse_env_headers(given, liberal=True))
