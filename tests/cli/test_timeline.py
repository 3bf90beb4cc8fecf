"""A session's record as a person follows it: who, what, how long, what it cost, what was undone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest

from holdfast.facts import Kind
from holdfast_cli.timeline import DULL, FIELDS, SAYINGS, moment_of, words
from holdfast_ledger.views import Entry

AT = datetime(2026, 7, 1, 12, tzinfo=UTC)


def said(kind: Kind, **columns: Any) -> str:
    """The entry's moment in words, on one line."""
    empty = dict.fromkeys(Entry.model_fields)
    known = {"seq": 1, "kind": kind, "at": AT, "recorded_at": AT, "hash": "", "body": {}}
    moment = moment_of(Entry(**{**empty, **known, **columns}), {}, {})
    assert set(moment.record()) == set(FIELDS)
    return click.unstyle(" | ".join(words(moment)))


def test_no_kind_of_entry_is_left_to_its_bare_name() -> None:
    assert set(Kind) - set(SAYINGS) == DULL


def test_a_decision_names_who_and_that_nobody_verified_the_name() -> None:
    columns = {"call": "1.1", "tool": "refund", "outcome": "approved", "actor": "bob"}
    body = {"authenticated": False, "reason": "small"}
    assert (
        said(Kind.APPROVAL_DECIDED, body=body, **columns) == "bob (name not verified): 1.1 refund approved: small"
    )
    verified = said(Kind.APPROVAL_DECIDED, body={"authenticated": True}, **columns)
    assert verified == "bob: 1.1 refund approved"


def test_a_refusal_of_policy_names_its_rule() -> None:
    columns = {"call": "1.1", "tool": "refund", "outcome": "deny", "actor": "policy"}
    assert said(Kind.CALL_DECIDED, body={"rule": "policy.deny:re*"}, **columns) == (
        "policy: 1.1 refund deny by policy.deny:re*"
    )


def test_a_call_that_was_done_says_how_long_it_took_and_what_it_cost() -> None:
    told = said(
        Kind.EFFECT_OUTCOME,
        call="1.1",
        tool="refund",
        outcome="done",
        effect_id="abc",
        latency=timedelta(seconds=1.5),
        body={"outcome": {"usd": "0.40"}},
    )
    assert told == "✓ 1.1 refund   1.5s  $0.4"


@pytest.mark.parametrize(
    ("outcome", "told"),
    [("done", "↶ 1.1 undone by charge"), ("failed", "✗ 1.1 not undone by charge |   failed: no such refund")],
)
def test_an_undone_call_is_told_as_one(outcome: str, told: str) -> None:
    columns = {"call": "1.1", "tool": "charge", "effect_id": "abc:undo", "outcome": outcome}
    assert said(Kind.EFFECT_OUTCOME, body={"outcome": {"text": "no such refund"}}, **columns) == told


def test_a_hold_says_why_and_ordinary_changes_of_status_say_nothing() -> None:
    assert said(Kind.SESSION_STATUS, outcome="held", body={"reason": "unknown"}) == "held: unknown"
    assert said(Kind.SESSION_STATUS, outcome="waiting") == ""
