"""A collector on loopback: takes what is exported over OTLP/HTTP, decodes it, keeps every byte."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

Attributes = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Span:
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    failed: bool
    attributes: Attributes
    service: str
    scope: str


@dataclass(frozen=True, kw_only=True)
class Point:
    """One value of a metric; of a histogram its count and sum."""

    attributes: Attributes
    value: float
    count: int = 0


class Collector:
    def __init__(self) -> None:
        self.bodies: list[tuple[str, bytes]] = []
        self.url = ""

    def spans(self) -> list[Span]:
        return [span for path, body in list(self.bodies) if path == "/v1/traces" for span in spans_of(body)]

    def span(self, name: str) -> Span:
        found = [span for span in self.spans() if span.name == name]
        assert len(found) == 1, f"{len(found)} spans {name} among {[span.name for span in self.spans()]}"
        return found[0]

    def metrics(self) -> dict[str, tuple[str, list[Point]]]:
        """Unit and points of each metric, as last exported."""
        latest: dict[str, tuple[str, list[Point]]] = {}
        for path, body in list(self.bodies):
            if path == "/v1/metrics":
                latest |= metrics_of(body)
        return latest

    def until(self, seen: Callable[[], object], *, within: float = 15.0) -> None:
        deadline = time.monotonic() + within
        while not seen():
            assert time.monotonic() < deadline, f"not exported; spans: {[span.name for span in self.spans()]}"
            time.sleep(0.02)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector for the length of the block."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.bodies.append((self.path, body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        collector.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def spans_of(body: bytes) -> list[Span]:
    return [
        Span(
            name=span.name,
            trace=span.trace_id.hex(),
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            kind=span.kind,
            failed=span.status.code == span.status.STATUS_CODE_ERROR,
            attributes=plain(span.attributes),
            service=plain(resource.resource.attributes)["service.name"],
            scope=scope.scope.name,
        )
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def metrics_of(body: bytes) -> dict[str, tuple[str, list[Point]]]:
    return {
        metric.name: (metric.unit, points_of(metric))
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def points_of(metric: Any) -> list[Point]:
    if metric.WhichOneof("data") == "histogram":
        return [
            Point(attributes=plain(point.attributes), value=point.sum, count=point.count)
            for point in metric.histogram.data_points
        ]
    return [
        Point(attributes=plain(point.attributes), value=getattr(point, point.WhichOneof("value")))
        for point in getattr(metric, metric.WhichOneof("data")).data_points
    ]


def plain(attributes: Any) -> Attributes:
    return {one.key: value_of(one.value) for one in attributes}


def value_of(value: Any) -> Any:
    if value.WhichOneof("value") == "array_value":
        return [value_of(each) for each in value.array_value.values]
    return getattr(value, value.WhichOneof("value"))
