"""What sessions cost, summed up by what a person wants to know.

Sums are of what was recorded with each turn and call. A figure nobody knows is never made up: it is counted beside
the sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import asyncpg

from holdfast.pricing import PRICES, Price, PriceTable
from holdfast_ledger import parameters
from holdfast_ledger.database import Database
from holdfast_ledger.views import Tokens, View

By = Literal["agent", "model", "tool", "label", "day", "session"]


class Cost(View):
    """One row of a report. `key` is None for what belongs to none, such as calls in a report by model."""

    key: str | None
    turns: int
    calls: int
    tokens: Tokens
    usd: Decimal | None
    """None where any part of it is unknown."""
    known_usd: Decimal
    """The sum of what is known: at least so much."""
    unpriced: int
    """Turns and calls whose cost nobody knows."""
    repriced: int
    """Turns that had no price when they were recorded, and have one by the table given."""
    lost_attempts: int
    """Model calls whose answers were lost: billed perhaps, and in none of the sums above."""
    assumed_usd: Decimal | None
    """What limits count for those, at most; None where nobody knows."""


@dataclass(frozen=True, kw_only=True)
class CostReport:
    rows: tuple[Cost, ...]
    total: Cost


NOTHING = Cost(
    key=None,
    turns=0,
    calls=0,
    tokens=Tokens(input=0, output=0, cache_read=0, cache_write=0),
    usd=Decimal(0),
    known_usd=Decimal(0),
    unpriced=0,
    repriced=0,
    lost_attempts=0,
    assumed_usd=Decimal(0),
)


async def report(
    database: Database,
    by: By,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    reprice: PriceTable | None = None,
) -> CostReport:
    """What was recorded in a time, the dearest first, days in their order. Raises `LedgerUnavailable`.

    Args:
        reprice: the user's own prices; with them, and the shipped table, turns of unknown price are priced anew, as
            of their day.
    """
    prices = (
        None if reprice is None else parameters.clear_json([*flat(reprice, own=True), *flat(PRICES, own=False)])
    )
    rows = await database.rows("costs", by, since, until, prices)
    total = [_cost(row) for row in rows if row["total"]]
    return CostReport(rows=tuple(_cost(row) for row in rows if not row["total"]), total=(total or [NOTHING])[0])


def flat(table: PriceTable, *, own: bool) -> Iterator[dict[str, Any]]:
    """The table as rows: the rates of each price, and those for prompts above a length."""
    for model, prices in table.items():
        for price in prices:
            yield from (
                {"model": model, "own": own, "since": price.since.isoformat(), **each} for each in _rates(price)
            )


def _rates(price: Price) -> Iterator[dict[str, Any]]:
    yield {"above": -1, **price.rates.model_dump()}
    if price.long is not None:
        yield {"above": price.long_above, **price.long.model_dump()}


def _cost(row: asyncpg.Record) -> Cost:
    known: Decimal = row["known_usd"]
    return Cost(
        key=row["key"],
        turns=row["turns"],
        calls=row["calls"],
        tokens=Tokens(
            input=row["input_tokens"],
            output=row["output_tokens"],
            cache_read=row["cache_read_tokens"],
            cache_write=row["cache_write_tokens"],
        ),
        usd=None if row["unpriced"] else known,
        known_usd=known,
        unpriced=row["unpriced"],
        repriced=row["repriced"],
        lost_attempts=row["lost_attempts"],
        assumed_usd=row["assumed_usd"],
    )
