"""`holdfast tool check --crash` tells a tool that keeps its class's promise from one that does not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from tests.crash_check.conftest import Bench, Checked

SUBJECT = '{"subject": "x"}'
NO_BOOKING = '{"booking_id": "NO-1", "reason": "none"}'
pytestmark = pytest.mark.timeout(240)
POINTS = [
    None,
    "after_claim",
    "before_dispatch",
    "after_dispatch_before_response",
    "after_response_before_record",
    "after_record_before_completion",
]


async def test_an_idempotent_tool_whose_service_dedupes_happens_once_at_each_crash(
    checks: Mapping[str, Checked],
) -> None:
    found = checks["notice"]

    assert found.code == 0, found
    assert found.said["verdict"] == "Idempotent: at each of 5 crashes it happened once."
    assert found.each("point") == POINTS
    assert found.each("effects") == [1, 1, 1, 1, 1, 1]
    assert found.each("sent") == [1, 1, 1, 2, 2, 1]
    assert all(run["attempts"] >= (2 if run["point"] in POINTS[1:5] else 1) for run in found.said["runs"])
    assert set(found.each("state")) == {"done"}


async def test_a_tool_that_claims_to_be_idempotent_and_sends_no_key_is_found_out(
    checks: Mapping[str, Checked],
) -> None:
    found = checks["careless"]

    assert found.code == 1, found
    assert found.said["ok"] is False
    assert found.said["verdict"] == (
        "`careless` declares Idempotent, and its service did the work twice at `after_dispatch_before_response` "
        "(and 1 more)."
    )
    assert found.each("effects") == [1, 1, 1, 2, 2, 1]


async def test_a_tool_of_class_operator_asks_a_person_and_is_never_sent_twice(
    checks: Mapping[str, Checked],
) -> None:
    found = checks["letter"]

    assert found.code == 0, found
    assert found.said["verdict"] == "Operator: 4 of 5 crashes ended unknown and ask a person; never twice."
    assert found.each("effects") == [1, 0, 0, 1, 1, 1]
    assert found.each("state") == ["done", "unknown", "unknown", "unknown", "unknown", "done"]


async def test_a_probed_tool_is_sent_again_only_where_its_service_says_never(checks: Mapping[str, Checked]) -> None:
    found = checks["refund"]

    assert found.code == 0, found
    assert found.said["verdict"] == "Probe: at each of 5 crashes it happened once."
    assert found.each("sent") == [1, 1, 1, 1, 1, 1]
    assert found.each("effects") == [1, 1, 1, 1, 1, 1]


async def test_a_check_leaves_nothing_in_doubt_that_was_counted(
    bench: Bench, checks: Mapping[str, Checked]
) -> None:
    assert checks["letter"].code == 0
    states = await bench.states("letter")
    assert states == ["DONE"] * 4 + ["FAILED"] * 2


async def test_what_cannot_be_checked_is_said_in_words(bench: Bench) -> None:
    cases: Sequence[tuple[str, list[str], int, str]] = (
        ("notice", ["--args", "{}"], 2, "go with --crash"),
        ("notice", ["--crash"], 1, "`subject` is missing"),
        ("notice", ["--crash", "--args", "{"], 1, "The arguments are no JSON"),
        ("notice", ["--crash", "--args", "@nowhere.json"], 2, "Cannot read the arguments from `nowhere.json`"),
        ("notice", ["--crash", "--args", SUBJECT, "--count", "echo many"], 2, "is no whole number: 'many'"),
        ("notice", ["--crash", "--args", SUBJECT, "--count", "exit 3"], 2, "ended with 3"),
        ("notice", ["--crash", "--args", SUBJECT, "--count", "echo 7"], 1, "it counts something else"),
        ("unheard", ["--crash"], 1, "unheard"),
        ("refund", ["--crash", "--args", NO_BOOKING], 1, "`refund` failed although nothing was lost"),
    )

    found = await asyncio.gather(*(bench(tool, *options) for tool, options, _, _ in cases))

    for one, (_, _, code, says) in zip(found, cases, strict=True):
        assert (one.code, says in one.err) == (code, True), one
        assert "Traceback" not in one.err
