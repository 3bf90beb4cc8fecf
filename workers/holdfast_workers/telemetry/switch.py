"""Whether telemetry is on, and where it goes: the standard `OTEL_*` variables, read once.

Holdfast differs from the standard in one point: without any of these variables nothing is exported, where the
standard would send to a collector on this machine. The exporters read the rest (`OTEL_EXPORTER_OTLP_HEADERS`,
`OTEL_BSP_*`, `OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES`, ...) themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal, Self, cast, get_args

from holdfast.errors import HoldfastError
from holdfast.wire import Strict

Exporter = Literal["otlp", "console"]
Signal = Literal["traces", "metrics"]
HTTP = "http/protobuf"


class TelemetryInvalid(HoldfastError):
    """A telemetry variable has a value that cannot be used."""

    code = "invalid"


class TelemetrySwitch(Strict):
    """Which exporter each signal has; None is off."""

    traces: Exporter | None = None
    metrics: Exporter | None = None
    disabled: bool = False
    """Off for good, even where an application around us has telemetry of its own."""
    named: bool = False
    """Somebody gave this process a service name."""
    interval: timedelta = timedelta(seconds=60)
    """How often metrics are exported."""

    @property
    def on(self) -> bool:
        return self.traces is not None or self.metrics is not None

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Raises `TelemetryInvalid`: an exporter or protocol that Holdfast does not carry."""
        if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return cls(disabled=True)
        return cls(
            traces=_exporter(environ, "traces"),
            metrics=_exporter(environ, "metrics"),
            named="OTEL_SERVICE_NAME" in environ or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", ""),
            interval=_interval(environ),
        )


def _exporter(environ: Mapping[str, str], signal: Signal) -> Exporter | None:
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    chosen = environ.get(variable, "").strip().lower()
    if not chosen:
        chosen = "otlp" if any(environ.get(name) for name in endpoints) else "none"
    if chosen == "none":
        return None
    if chosen not in get_args(Exporter):
        raise TelemetryInvalid(f"{variable} is `{chosen}`; Holdfast exports to otlp, console or none.")
    if chosen == "otlp":
        _check_protocol(environ, signal)
    return cast(Exporter, chosen)


def _interval(environ: Mapping[str, str]) -> timedelta:
    given = environ.get("OTEL_METRIC_EXPORT_INTERVAL") or "60000"
    if not given.isdigit() or int(given) == 0:
        raise TelemetryInvalid(f"OTEL_METRIC_EXPORT_INTERVAL is `{given}`; it is a number of milliseconds.")
    return timedelta(milliseconds=int(given))


def _check_protocol(environ: Mapping[str, str], signal: Signal) -> None:
    for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        chosen = environ.get(variable, "").strip()
        if chosen and chosen != HTTP:
            raise TelemetryInvalid(
                f"{variable} is `{chosen}`; Holdfast speaks {HTTP}: set that, and the collector's HTTP "
                "endpoint (usually port 4318)."
            )
        if chosen:
            return
