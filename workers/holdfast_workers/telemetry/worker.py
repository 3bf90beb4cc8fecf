"""The telemetry of one worker process: what the composition root hands to activities, worker and client.

Off, every part is the plain thing it would be without telemetry, and the OpenTelemetry SDK is never imported.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporalio.worker import Interceptor

from holdfast_activities.attempt_report import AttemptReport
from holdfast_activities.calls.report import CallReport, log_call
from holdfast_activities.model_turn import log_attempt
from holdfast_ledger.standing import Standing
from holdfast_workers.telemetry.switch import TelemetrySwitch

if TYPE_CHECKING:
    from temporalio.runtime import Runtime

    from holdfast_workers.telemetry.gauges import Gauges
    from holdfast_workers.telemetry.providers import Providers

SERVICE = "holdfast-worker"
CLOSE_WITHIN_S = 5.0


@dataclass(frozen=True, kw_only=True)
class WorkerTelemetry:
    """Made by `open_telemetry`; the plain one is off."""

    observe_turn: Callable[[AttemptReport], None] = log_attempt
    observe_call: Callable[[CallReport], None] = log_call
    interceptors: tuple[Interceptor, ...] = ()
    runtime: Runtime | None = None
    """Temporal's own runtime where its core exports metrics too; None is the default one."""
    gauges: Gauges | None = None
    providers: Providers | None = None

    def watching(self, count: Callable[[], Awaitable[Standing]]) -> AbstractAsyncContextManager[None]:
        """Keep the gauges counted for the length of the block."""
        return self.gauges.watching(count) if self.gauges is not None else nullcontext()

    def close(self) -> None:
        """Export what is left. Blocks for a few seconds at most; what does not get out by then is lost."""
        if self.providers is not None:
            self.providers.close(within=CLOSE_WITHIN_S)


OFF = WorkerTelemetry()


def open_telemetry(environ: Mapping[str, str], *, provider: str) -> WorkerTelemetry:
    """Telemetry as the environment asks for it, or as the application around us has set it up; else off.

    Args:
        provider: the model's provider, as settings name it.

    Raises:
        TelemetryInvalid: a variable has a value that cannot be used.
    """
    switch = TelemetrySwitch.from_env(environ)
    if switch.disabled or (not switch.on and "opentelemetry.sdk" not in sys.modules):
        return OFF
    from holdfast_workers.telemetry.providers import ambient_providers, open_providers

    providers = open_providers(switch, service=SERVICE) if switch.on else ambient_providers()
    return telemetry_of(providers, switch, provider=provider, runtime=_runtime(environ, switch))


def telemetry_of(
    providers: Providers, switch: TelemetrySwitch, *, provider: str, runtime: Runtime | None = None
) -> WorkerTelemetry:
    """Telemetry through these providers."""
    from holdfast_workers.telemetry.activity_spans import ActivitySpans
    from holdfast_workers.telemetry.gauges import Gauges
    from holdfast_workers.telemetry.measures import Measures

    if providers.tracing is None and providers.metering is None:
        return WorkerTelemetry(runtime=runtime)
    measures = Measures(providers.meter(), provider=provider)

    def observe_turn(report: AttemptReport) -> None:
        log_attempt(report)
        measures.turn(report)

    def observe_call(report: CallReport) -> None:
        log_call(report)
        measures.call(report)

    return WorkerTelemetry(
        observe_turn=observe_turn,
        observe_call=observe_call,
        interceptors=(ActivitySpans(providers.tracer()),) if providers.tracing is not None else (),
        gauges=Gauges(providers.meter(), every=switch.interval) if providers.metering is not None else None,
        runtime=runtime,
        providers=providers,
    )


def _runtime(environ: Mapping[str, str], switch: TelemetrySwitch) -> Runtime | None:
    if switch.metrics != "otlp" or environ.get("HOLDFAST_TEMPORAL_METRICS", "").lower() != "true":
        return None
    from holdfast_workers.telemetry.core_metrics import core_runtime

    return core_runtime(environ, switch)
