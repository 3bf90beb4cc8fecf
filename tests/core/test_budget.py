"""Limits: which holds, and when it is reached."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from holdfast.budget import Limits, Lost, Spend, TighterLimits, Usage, exhausted

NOW = timedelta(0)


def test_a_lost_answer_is_counted_as_the_most_that_it_can_have_cost() -> None:
    spend = Spend(turns=1, tokens=100, usd=Decimal("0.10"))
    lost = Lost.assumed(2, Usage(input=10, output=40), Decimal("0.25"))
    assert spend.with_lost(lost) == Spend(turns=1, tokens=200, usd=Decimal("0.60"), lost_attempts=2)
    assert spend.with_lost(Lost.assumed(1, Usage(output=40), None)).usd is None
    assert spend.with_lost(None) == spend


def test_a_session_may_lower_its_agents_limits_and_never_raise_them() -> None:
    agent = Limits(turns=10, usd=Decimal(2))
    held = TighterLimits(turns=50, usd=Decimal(1), tokens=1000).within(agent)
    assert (held.turns, held.usd, held.tokens) == (10, Decimal(1), 1000)


def test_what_a_session_does_not_name_stays_the_agents() -> None:
    agent = Limits(turns=3, calls=0, parallel_calls=2, idle_timeout=timedelta(hours=1))
    assert TighterLimits().within(agent) == agent


@pytest.mark.parametrize(
    ("limits", "spend", "elapsed", "word"),
    [
        (Limits(turns=2), Spend(turns=2), NOW, "2 turns"),
        (Limits(tokens=10), Spend(tokens=11), NOW, "10 tokens"),
        (Limits(usd=Decimal("0.5")), Spend(usd=Decimal("0.5")), NOW, "$0.5"),
        (Limits(wall_time=timedelta(minutes=1)), Spend(), timedelta(minutes=2), "0:01:00"),
    ],
)
def test_a_reached_limit_is_named(limits: Limits, spend: Spend, elapsed: timedelta, word: str) -> None:
    assert word in str(exhausted(limits, spend, elapsed))


def test_below_every_limit_nothing_is_reached() -> None:
    assert exhausted(Limits(usd=Decimal(1)), Spend(turns=3, calls=4, tokens=5, usd=Decimal("0.1")), NOW) is None


def test_a_dollar_limit_holds_where_the_price_is_unknown() -> None:
    unknown = Spend().with_turn(Usage(input=1), None)
    assert "unknown" in str(exhausted(Limits(usd=Decimal(100)), unknown, NOW))
    assert unknown.with_turn(Usage(input=1), Decimal(1)).usd is None
