"""The OpenTelemetry SDK of this process: resource, providers, exporters. Imported only where telemetry is on."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from opentelemetry import metrics, trace
from opentelemetry.metrics import Meter, NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import NoOpTracerProvider, Tracer

from holdfast_workers.telemetry.names import SCOPE
from holdfast_workers.telemetry.switch import Exporter, TelemetrySwitch

VERSION = version("holdfast")


@dataclass(frozen=True, kw_only=True)
class Providers:
    """What this process exports through; None for a signal that is off."""

    tracing: TracerProvider | None = None
    metering: MeterProvider | None = None
    stops: tuple[Callable[[], None], ...] = ()
    """Export what is left and stop: of the providers made here, not of an application's own."""

    def tracer(self) -> Tracer:
        return trace.get_tracer(SCOPE, VERSION, self.tracing or NoOpTracerProvider())

    def meter(self) -> Meter:
        return metrics.get_meter(SCOPE, VERSION, self.metering or NoOpMeterProvider())

    def close(self, *, within: float) -> bool:
        """Export what is left and stop. False if that took longer than `within` seconds; then it is lost.

        In a thread of its own, because the exporters' own limits add up to minutes where a collector hangs.
        """
        thread = threading.Thread(target=self._stop, name="holdfast-telemetry-close", daemon=True)
        thread.start()
        thread.join(within)
        return not thread.is_alive()

    def _stop(self) -> None:
        for stop in self.stops:
            stop()


def ambient_providers() -> Providers:
    """The providers that an application around us has set up for itself."""
    tracing, metering = trace.get_tracer_provider(), metrics.get_meter_provider()
    return Providers(
        tracing=tracing if isinstance(tracing, TracerProvider) else None,
        metering=metering if isinstance(metering, MeterProvider) else None,
    )


def open_providers(switch: TelemetrySwitch, *, service: str) -> Providers:
    """Make the providers of the signals that are on, global, so that the Anthropic client and tools join them.

    Args:
        service: name of the service where the environment gives none.
    """
    ambient = ambient_providers()
    resource = _resource(switch, service)
    tracing, metering = ambient.tracing, ambient.metering
    stops: list[Callable[[], None]] = []
    if switch.traces is not None and tracing is None:
        tracing = TracerProvider(resource=resource, shutdown_on_exit=False)
        tracing.add_span_processor(BatchSpanProcessor(_span_exporter(switch.traces)))
        trace.set_tracer_provider(tracing)
        stops.append(tracing.shutdown)
    if switch.metrics is not None and metering is None:
        reader = PeriodicExportingMetricReader(_metric_exporter(switch.metrics))
        metering = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        metrics.set_meter_provider(metering)
        stops.append(metering.shutdown)
    return Providers(tracing=tracing, metering=metering, stops=tuple(stops))


def _resource(switch: TelemetrySwitch, service: str) -> Resource:
    own = {SERVICE_VERSION: VERSION} | ({} if switch.named else {SERVICE_NAME: service})
    return Resource.create().merge(Resource(own))


def _span_exporter(exporter: Exporter) -> SpanExporter:
    if exporter == "console":
        return ConsoleSpanExporter(out=sys.stderr)  # stdout belongs to the command's answer
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _metric_exporter(exporter: Exporter) -> MetricExporter:
    if exporter == "console":
        return ConsoleMetricExporter(out=sys.stderr)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter()
