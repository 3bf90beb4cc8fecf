"""What a model turn costs: a dated price table and the arithmetic over recorded tokens.

No figure is invented: a model that is not in the table has the cost None, shown as unknown. The table holds the
list prices of the Claude API; a cloud's or gateway's own model ids are not in it, so add yours as overrides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal

from pydantic import Field

from holdfast.budget import Usage
from holdfast.wire import Strict

MILLION = Decimal(1_000_000)
_SNAPSHOT = re.compile(r"-\d{8}$")


class Rates(Strict):
    """Dollars per million tokens. Cache writes are those of the five-minute cache, the only one Holdfast uses."""

    input: Decimal = Field(ge=0)
    output: Decimal = Field(ge=0)
    cache_write: Decimal = Field(ge=0)
    cache_read: Decimal = Field(ge=0)


class Price(Strict):
    """A model's rates from `since` on; `long` replaces them for a prompt above `long_above` tokens."""

    since: date = date.min
    rates: Rates
    long: Rates | None = None
    long_above: int = Field(default=0, ge=0)

    def rates_for(self, usage: Usage) -> Rates:
        prompt = usage.input + usage.cache_read + usage.cache_write
        return self.long if self.long is not None and prompt > self.long_above else self.rates


class OwnPrice(Rates):
    """A user's own price of a model, as a table of `holdfast.toml`."""

    since: date = date.min
    long: Rates | None = None
    """Instead, for a prompt above `long_above` tokens."""
    long_above: int = Field(default=0, ge=0)

    @property
    def price(self) -> Price:
        rates = Rates.model_validate({name: getattr(self, name) for name in Rates.model_fields})
        return Price(since=self.since, rates=rates, long=self.long, long_above=self.long_above)


class LaterPrice(OwnPrice):
    """What the model costs from a day on."""

    since: date


class OwnPrices(OwnPrice):
    """`[prices."MODEL"]`, and a `[[prices."MODEL".later]]` for each change since."""

    later: tuple[LaterPrice, ...] = ()

    @property
    def prices(self) -> tuple[Price, ...]:
        return (self.price, *(each.price for each in self.later))


PriceTable = Mapping[str, tuple[Price, ...]]
"""Per model id, without a snapshot's date; the newest price that has begun holds."""


def _rates(input: str, output: str, cache_write: str, cache_read: str) -> Rates:
    return Rates(
        input=Decimal(input),
        output=Decimal(output),
        cache_write=Decimal(cache_write),
        cache_read=Decimal(cache_read),
    )


def _flat(input: str, output: str, cache_write: str, cache_read: str) -> tuple[Price, ...]:
    return (Price(rates=_rates(input, output, cache_write, cache_read)),)


# Last compared with the published list on 2026-11-20.
PRICES: PriceTable = {
    "scripted": _flat("0", "0", "0", "0"),  # the stand-in of `holdfast up` without a key: nobody is paid
    "claude-fable-5-1": _flat("10", "50", "12.5", "0.25"),
    "claude-mythos-5-1": _flat("10", "50", "12.5", "0.25"),
    "claude-fable-5": _flat("10", "50", "12.5", "1"),
    "claude-mythos-5": _flat("10", "50", "12.5", "1"),
    "claude-opus-5-5": _flat("4", "20", "5", "0.2"),
    "claude-opus-5": _flat("5", "25", "6.25", "0.5"),
    "claude-opus-4-8": _flat("5", "25", "6.25", "0.5"),
    "claude-opus-4-7": _flat("5", "25", "6.25", "0.5"),
    "claude-opus-4-6": _flat("5", "25", "6.25", "0.5"),
    "claude-opus-4-5": _flat("5", "25", "6.25", "0.5"),
    "claude-sonnet-5-5": (
        Price(rates=_rates("2", "10", "2.5", "0.2")),
        Price(since=date(2026, 10, 7), rates=_rates("2", "10", "2.5", "0.1")),
    ),
    "claude-sonnet-5": _flat("2", "10", "2.5", "0.2"),
    "claude-sonnet-4-6": _flat("3", "15", "3.75", "0.3"),
    "claude-sonnet-4-5": (
        Price(
            rates=_rates("3", "15", "3.75", "0.3"),
            long=_rates("6", "22.5", "7.5", "0.6"),
            long_above=200_000,
        ),
    ),
    "claude-haiku-5-5": (
        Price(
            rates=_rates("0.1", "0.5", "0.125", "0.01"),
            long=_rates("0.5", "2.5", "0.625", "0.05"),
            long_above=100_000,
        ),
    ),
    "claude-haiku-4-5": _flat("1", "5", "1.25", "0.1"),
}


SERVER_TOOLS: Mapping[str, Decimal] = {
    "web_search_requests": Decimal("0.01"),
    "web_fetch_requests": Decimal(0),
}
"""Dollars per use of the API's own tools, by the name of their counter in a turn's usage."""


def server_tools_usd(counted: Mapping[str, int]) -> Decimal | None:
    """Dollars for server tools beside their tokens, or None where one that was used has no known price."""
    used = {name: count for name, count in counted.items() if count}
    if any(name not in SERVER_TOOLS for name in used):
        return None
    return sum((SERVER_TOOLS[name] * count for name, count in used.items()), Decimal(0))


def cost_usd(
    model: str, usage: Usage, *, on: date | None = None, overrides: PriceTable | None = None
) -> Decimal | None:
    """Dollars for one turn, or None for a model whose price is unknown.

    Args:
        model: the id that answered; a dated snapshot (`-20251001`) has its model's price.
        on: the day of the turn; None is the newest price.
        overrides: the user's own prices; they win over the table, model by model, from their first day on.
    """
    price = _price(model, on or date.max, overrides or {})
    if price is None:
        return None
    rates = price.rates_for(usage)
    micro = (
        usage.input * rates.input
        + usage.output * rates.output
        + usage.cache_write * rates.cache_write
        + usage.cache_read * rates.cache_read
    )
    return micro / MILLION


def _price(model: str, on: date, overrides: PriceTable) -> Price | None:
    for name in (model, _SNAPSHOT.sub("", model)):
        for table in (overrides, PRICES):
            begun = [price for price in table.get(name, ()) if price.since <= on]
            if begun:
                return max(begun, key=lambda price: price.since)
    return None
