"""Metrics count attempts, calls, tokens and dollars by the names that docs/telemetry.md lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from holdfast.budget import Usage
from holdfast.states import CallStatus, Tier
from holdfast_activities.attempt_report import AttemptReport
from holdfast_activities.calls.report import CallReport
from holdfast_workers.telemetry import names
from holdfast_workers.telemetry.measures import Measures

TURN = AttemptReport(
    session_id="s",
    turn=1,
    attempt=1,
    outcome="done",
    model_asked="claude-sonnet-4-5",
    model_answered="claude-sonnet-4-5-20250929",
    stop_reason="tool_use",
    usage=Usage(input=100, output=20, cache_read=1000, cache_write=50),
    usd=Decimal("0.0125"),
    latency=timedelta(milliseconds=700),
    calls=1,
)
CALL = CallReport(
    session_id="s",
    turn=1,
    call="1.1",
    tool="refund",
    tier=Tier.IRREVERSIBLE,
    service="payments",
    effect_id="e",
    attempt=1,
    outcome="done",
    settled=True,
    status=CallStatus.OK,
    code=None,
    latency=timedelta(milliseconds=30),
    size=2,
    usd=Decimal(0),
    argument_keys=("amount",),
)


class Meters:
    """What one worker measures, read without an exporter."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.measures = Measures(self.provider.get_meter("test"), provider="bedrock")

    def points(self, name: str) -> dict[tuple[tuple[str, Any], ...], Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        found = [
            metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        ]
        if not found:
            return {}
        assert found[0].unit == names.METRICS[name][0]
        points = found[0].data.data_points
        assert all(set(point.attributes or {}) <= set(names.METRICS[name][1]) for point in points)
        return {tuple(sorted((point.attributes or {}).items())): point for point in points}

    def sums(self, name: str, *by: str) -> dict[tuple[Any, ...], float]:
        totals: dict[tuple[Any, ...], float] = {}
        for attributes, point in self.points(name).items():
            key = tuple(dict(attributes).get(one) for one in by)
            totals[key] = totals.get(key, 0) + (point.sum if hasattr(point, "sum") else point.value)
        return totals


@pytest.fixture
def meters() -> Iterator[Meters]:
    meters = Meters()
    yield meters
    meters.provider.shutdown()


def test_calls_are_counted_by_tool_tier_and_outcome_once_they_are_settled(meters):
    meters.measures.call(replace(CALL, outcome="transient", settled=False, status=None))
    meters.measures.call(replace(CALL, attempt=2))
    meters.measures.call(replace(CALL, tool="search", tier=Tier.READ, status=CallStatus.ERROR, outcome="refused"))
    assert meters.sums(names.CALL_COUNT, names.TOOL_NAME, names.TIER, names.OUTCOME) == {
        ("refund", "irreversible", "ok"): 1,
        ("search", "read", "error"): 1,
    }


def test_retries_are_told_from_first_attempts(meters):
    meters.measures.call(replace(CALL, outcome="transient", settled=False, status=None))
    meters.measures.call(replace(CALL, attempt=2))
    assert meters.sums(names.CALL_ATTEMPTS, names.ATTEMPT_OUTCOME, names.RETRY) == {
        ("transient", False): 1,
        ("done", True): 1,
    }


def test_latency_is_in_seconds(meters):
    meters.measures.call(CALL)
    meters.measures.turn(TURN)
    assert meters.sums(names.CALL_LATENCY, names.TOOL_NAME) == {("refund",): pytest.approx(0.03)}
    assert meters.sums(names.MODEL_LATENCY, names.PROVIDER) == {("aws.bedrock",): pytest.approx(0.7)}


def test_tokens_follow_the_conventions_and_are_also_counted_as_they_are_priced(meters):
    meters.measures.turn(TURN)
    assert meters.sums(names.TOKEN_USAGE, names.TOKEN_TYPE) == {("input",): 1150, ("output",): 20}
    assert meters.sums(names.MODEL_TOKENS, names.TOKEN_TYPE) == {
        ("input",): 100,
        ("output",): 20,
        ("cache_read",): 1000,
        ("cache_write",): 50,
    }


def test_cost_is_summed_by_model_and_an_unknown_one_is_counted_not_invented(meters):
    meters.measures.turn(TURN)
    meters.measures.turn(TURN)
    meters.measures.turn(replace(TURN, model_answered="home-grown", usd=None))
    assert meters.sums(names.MODEL_COST, names.RESPONSE_MODEL) == {
        ("claude-sonnet-4-5-20250929",): pytest.approx(0.025)
    }
    assert meters.sums(names.MODEL_UNPRICED, names.RESPONSE_MODEL) == {("home-grown",): 1}


def test_a_failed_attempt_is_timed_with_its_error_and_adds_no_tokens(meters):
    failed = replace(TURN, outcome="transient", usage=Usage(), usd=Decimal(0), error="overloaded_error")
    meters.measures.turn(failed)
    assert meters.sums(names.MODEL_LATENCY, names.ERROR_TYPE) == {("overloaded_error",): pytest.approx(0.7)}
    assert meters.points(names.TOKEN_USAGE) == {}
    assert meters.sums(names.TURN_ATTEMPTS, names.ATTEMPT_OUTCOME) == {("transient",): 1}
