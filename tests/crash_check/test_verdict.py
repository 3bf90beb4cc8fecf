"""What a check says of what it saw: the words for each class, and for each way to break it."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.states import RecoveryClass, Tier
from holdfast_cli.commands.crash_check import drawn
from holdfast_workers.crash_check.report import Report, Run, judge

IDEMPOTENT, OPERATOR = RecoveryClass.IDEMPOTENT, RecoveryClass.OPERATOR


def run(point: str | None, **changes: Any) -> Run:
    usual: dict[str, Any] = {
        "crashed": point is not None,
        "attempts": 1,
        "sent": 1,
        "keys": 1,
        "effects": 1,
        "state": "done",
        "seconds": 3.0,
        "effect_id": "e" * 64,
    }
    return Run(point=point, **{**usual, **changes})


def of(recovery: RecoveryClass, *crashes: Run, tier: Tier = Tier.IRREVERSIBLE, calm: Run | None = None) -> Report:
    return judge("refund", tier, recovery, (calm or run(None), *crashes))


@pytest.mark.parametrize(
    ("crash", "says"),
    [
        (run("after_claim", effects=2), "its service did the work twice at `after_claim`"),
        (run("after_claim", effects=3), "its service did the work 3 times at `after_claim`"),
        (run("after_claim", effects=0), "it is recorded as done at `after_claim`, and its service did not do it"),
        (run("after_claim", state="failed"), "it is recorded as failed at `after_claim`, and its service did it"),
        (run("after_claim", state="not settled"), "it was not settled in 3 s at `after_claim`"),
    ],
)
def test_what_the_count_contradicts_is_a_problem(crash: Run, says: str) -> None:
    report = of(IDEMPOTENT, crash)

    assert not report.ok
    assert report.problems == (says,)
    assert report.verdict == f"`refund` declares Idempotent, and {says}."


def test_a_read_that_changes_something_is_found_out() -> None:
    calm = run(None, effects=1)

    report = of(RecoveryClass.RETRY, run("after_claim", effects=0), tier=Tier.READ, calm=calm)

    assert report.problems == ("it is a read, but its service did work although nothing was lost: 1 more stand",)


def test_an_operator_tool_that_is_sent_again_is_found_out_without_a_count() -> None:
    calm = run(None, effects=None)

    report = of(OPERATOR, run("after_claim", effects=None, sent=2), calm=calm)

    assert report.problems == ("it was sent again at `after_claim`",)


def test_without_a_count_a_second_request_is_the_services_word() -> None:
    crashes = (run("after_claim", effects=None), run("after_response_before_record", effects=None, sent=2))

    report = of(IDEMPOTENT, *crashes, calm=run(None, effects=None))

    assert report.ok
    assert report.verdict == (
        "Idempotent: at each of 2 crashes it ended as done; it was sent again at 1 under the same key: "
        "--count tells whether its service did it once."
    )


def test_a_point_that_the_tool_does_not_pass_is_no_crash() -> None:
    passed_by = run("after_dispatch_before_response", crashed=False, sent=None, effects=None)
    crash = run("after_claim", sent=None, effects=None, state="unknown")

    report = of(OPERATOR, crash, passed_by, calm=run(None, sent=None, effects=None))

    assert report.verdict == (
        "Operator: 1 of 1 crashes ended unknown and ask a person; it does not send through `ToolContext.http`: "
        "only --count can tell how often."
    )
    text = drawn(report)
    assert "done (the tool does not pass here)" in text
    assert f"holdfast effect resolve {'e' * 12}" in text
