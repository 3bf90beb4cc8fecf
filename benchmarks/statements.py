"""Counting what a worker asks of Postgres: every statement it sends is one round trip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import asyncpg

from benchmarks.contenders import Own
from benchmarks.inside import own_inside
from benchmarks.place import Place
from holdfast_ledger.database import named_sql
from holdfast_workers.client import Holdfast


async def per_turn(place: Place, client: Holdfast, *, turns: int) -> dict[str, float]:
    """Round trips per turn of a lone session, by the statement's name.

    What a session takes once is left out: a session of one turn is subtracted.
    """
    with counted() as counts:
        async with own_inside(place, client) as own:
            once = await _during(own, 1, counts)
            many = await _during(own, turns + 1, counts)
    return {name: (many[name] - once[name]) / turns for name in sorted(many) if many[name] > once[name]}


async def _during(own: Own, turns: int, counts: Counter[str]) -> Counter[str]:
    before = counts.copy()
    await own.run(turns)
    return counts - before


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the statements of every pool opened inside the block, by name."""
    counts: Counter[str] = Counter()
    names = {text: name for name, text in named_sql().items()}

    def count(query: asyncpg.connection.LoggedQuery) -> None:
        counts[names.get(query.query, query.query)] += 1

    async def listen(connection: asyncpg.Connection) -> None:
        connection.add_query_logger(count)

    with patch.object(asyncpg, "create_pool", partial(asyncpg.create_pool, init=listen)):
        yield counts
