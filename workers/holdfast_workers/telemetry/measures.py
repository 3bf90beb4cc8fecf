"""What is counted and timed, from the reports that activities give of their attempts.

The same report also fills in the attributes of the span around the attempt, where one is active.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from opentelemetry import trace
from opentelemetry.metrics import Meter

from holdfast_activities.attempt_report import AttemptReport
from holdfast_activities.calls.report import CallReport
from holdfast_workers.telemetry import names

Attributes = dict[str, str | int | float | bool]

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
"""Bucket boundaries as the GenAI conventions advise."""

PROVIDERS = {"bedrock": "aws.bedrock", "vertex": "gcp.vertex_ai", "gateway": "anthropic"}
"""What the conventions call a provider. Behind a gateway may be anything that speaks the Messages API."""


class Measures:
    """The instruments of one worker, and the observers that feed them."""

    def __init__(self, meter: Meter, *, provider: str) -> None:
        """Args:
        provider: the model's provider as settings name it.
        """
        self._provider = PROVIDERS.get(provider, provider)
        unit = {name: unit for name, (unit, _) in names.METRICS.items()}
        self._usage = meter.create_histogram(
            names.TOKEN_USAGE,
            unit[names.TOKEN_USAGE],
            "Tokens of one model call; input includes what the provider cached.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )
        self._model_latency = meter.create_histogram(
            names.MODEL_LATENCY,
            unit[names.MODEL_LATENCY],
            "Time of one model call, from the request to the end of the stream.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._tokens = meter.create_counter(
            names.MODEL_TOKENS, unit[names.MODEL_TOKENS], "Tokens by how they are priced."
        )
        self._cost = meter.create_counter(names.MODEL_COST, unit[names.MODEL_COST], "Cost of model calls.")
        self._unpriced = meter.create_counter(
            names.MODEL_UNPRICED, unit[names.MODEL_UNPRICED], "Model calls whose cost nobody can tell."
        )
        self._turns = meter.create_counter(
            names.TURN_ATTEMPTS, unit[names.TURN_ATTEMPTS], "Attempts of turns that were granted."
        )
        self._calls = meter.create_counter(names.CALL_COUNT, unit[names.CALL_COUNT], "Calls that were settled.")
        self._call_attempts = meter.create_counter(
            names.CALL_ATTEMPTS, unit[names.CALL_ATTEMPTS], "Attempts of calls that were granted."
        )
        self._call_latency = meter.create_histogram(
            names.CALL_LATENCY,
            unit[names.CALL_LATENCY],
            "Time of one attempt of a call, from dispatch to its result.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )

    def turn(self, report: AttemptReport) -> None:
        """Observe one attempt of a model turn."""
        _describe_turn(report, self._provider)
        model: Attributes = {names.RESPONSE_MODEL: report.model_answered or report.model_asked}
        self._turns.add(
            1,
            {
                names.REQUEST_MODEL: report.model_asked,
                names.ATTEMPT_OUTCOME: report.outcome,
                names.RETRY: report.attempt > 1,
            },
        )
        conventional = {
            names.OPERATION: "chat",
            names.PROVIDER: self._provider,
            names.REQUEST_MODEL: report.model_asked,
            **model,
        }
        failed: Attributes = {names.ERROR_TYPE: report.error} if report.error else {}
        self._model_latency.record(_seconds(report.latency), {**conventional, **failed})
        usage = report.usage
        if usage.total:
            prompt = usage.input + usage.cache_read + usage.cache_write
            self._usage.record(prompt, {**conventional, names.TOKEN_TYPE: "input"})
            self._usage.record(usage.output, {**conventional, names.TOKEN_TYPE: "output"})
        for kind in ("input", "output", "cache_read", "cache_write"):
            if tokens := getattr(usage, kind):
                self._tokens.add(tokens, {**model, names.TOKEN_TYPE: kind})
        if report.usd is None:
            self._unpriced.add(1, model)
        elif report.usd > Decimal(0):
            self._cost.add(float(report.usd), model)

    def call(self, report: CallReport) -> None:
        """Observe one attempt of a call."""
        _describe_call(report)
        call: Attributes = {names.TOOL_NAME: report.tool, names.TIER: str(report.tier)}
        attempted: Attributes = {**call, names.ATTEMPT_OUTCOME: report.outcome}
        self._call_attempts.add(1, {**attempted, names.RETRY: report.attempt > 1})
        self._call_latency.record(_seconds(report.latency), attempted)
        if report.status is not None:
            self._calls.add(1, {**call, names.OUTCOME: str(report.status)})


def _describe_turn(report: AttemptReport, provider: str) -> None:
    span = trace.get_current_span()
    if not span.is_recording():
        return
    usage = report.usage
    span.update_name(names.TURN_SPAN.format(model=report.model_asked))
    known: dict[str, Any] = {
        names.PROVIDER: provider,
        names.REQUEST_MODEL: report.model_asked,
        names.RESPONSE_MODEL: report.model_answered,
        names.FINISH_REASONS: [report.stop_reason] if report.stop_reason else None,
        names.ERROR_TYPE: report.error,
        names.ATTEMPT: report.attempt,
        names.ATTEMPT_OUTCOME: report.outcome,
        names.CALLS: report.calls,
        names.COST: None if report.usd is None else float(report.usd),
    }
    if usage.total:
        known |= {
            names.INPUT_TOKENS: usage.input + usage.cache_read + usage.cache_write,
            names.OUTPUT_TOKENS: usage.output,
            names.CACHE_READ_TOKENS: usage.cache_read,
            names.CACHE_WRITE_TOKENS: usage.cache_write,
        }
    span.set_attributes({name: value for name, value in known.items() if value is not None})


def _describe_call(report: CallReport) -> None:
    known: dict[str, Any] = {
        names.TIER: str(report.tier),
        names.ATTEMPT: report.attempt,
        names.ATTEMPT_OUTCOME: report.outcome,
        names.ERROR_TYPE: report.error,
    }
    trace.get_current_span().set_attributes({name: value for name, value in known.items() if value is not None})


def _seconds(duration: timedelta) -> float:
    return duration / timedelta(seconds=1)
