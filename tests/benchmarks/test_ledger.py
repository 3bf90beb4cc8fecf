"""The ledger's benchmark at its smallest: what it appended verifies. It asks for no speed."""

from __future__ import annotations

from benchmarks.ledger import Plan, measure_at, table
from tests.conftest import Database


async def test_the_smallest_run_measures_every_number(database: Database) -> None:
    plan = Plan(sessions=2, entries=40, batch=5)

    found = await measure_at(database.owner_dsn, plan)

    assert min(found.appended_alone, found.appended_in_batches, found.verified, found.checkpoint_ms) > 0
    assert found.bytes_per_entry >= 0  # less than a page more
    assert table(found, plan).row_count == 5
