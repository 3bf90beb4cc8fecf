"""What a turn costs, and when nobody can say."""

from datetime import date
from decimal import Decimal

from holdfast.budget import Usage
from holdfast.pricing import Price, Rates, cost_usd, server_tools_usd

MILLION = 1_000_000


def test_every_kind_of_token_has_its_own_price():
    usage = Usage(input=MILLION, output=MILLION, cache_read=MILLION, cache_write=MILLION)
    assert cost_usd("claude-opus-4-5", usage) == Decimal("36.75")


def test_a_model_outside_the_table_has_no_price():
    assert cost_usd("claude-of-the-future", Usage(input=1)) is None


def test_a_dated_snapshot_has_its_models_price():
    usage = Usage(input=MILLION)
    assert cost_usd("claude-haiku-4-5-20251001", usage) == cost_usd("claude-haiku-4-5", usage) == 1


def test_a_users_own_price_wins():
    free = Rates(input=Decimal(0), output=Decimal(0), cache_write=Decimal(0), cache_read=Decimal(0))
    assert cost_usd("claude-opus-5", Usage(input=MILLION), overrides={"claude-opus-5": (Price(rates=free),)}) == 0


def test_the_price_of_the_day_holds():
    usage = Usage(cache_read=MILLION)
    assert cost_usd("claude-sonnet-5-5", usage, on=date(2026, 10, 6)) == Decimal("0.2")
    assert cost_usd("claude-sonnet-5-5", usage, on=date(2026, 10, 7)) == Decimal("0.1")


def test_a_long_prompt_counts_its_cached_part():
    assert cost_usd("claude-haiku-5-5", Usage(input=50_000, cache_read=50_000)) == Decimal("0.0055")
    assert cost_usd("claude-haiku-5-5", Usage(input=50_000, cache_read=50_001)) == Decimal("0.02750005")


def test_server_tools_cost_what_is_known_of_them():
    assert server_tools_usd({"web_search_requests": 3, "web_fetch_requests": 9, "mind_readings": 0}) == Decimal(
        "0.03"
    )
    assert server_tools_usd({"mind_readings": 1}) is None


def test_small_turns_keep_their_exact_cost():
    assert cost_usd("claude-sonnet-5", Usage(input=1)) == Decimal("0.000002")
