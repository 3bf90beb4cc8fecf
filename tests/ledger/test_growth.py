"""What a turn takes of Postgres does not grow with what is there, with statistics and without."""

from __future__ import annotations

from dataclasses import replace

import asyncpg

from holdfast.states import EffectState
from holdfast_ledger.records import Granted
from tests.conftest import Database
from tests.ledger.conftest import Conversation, connected
from tests.waiting import until

READ = "SELECT sum(coalesce(idx_tup_fetch, 0) + seq_tup_read) FROM pg_stat_user_tables"
WORKING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


async def take_turns(worker: Conversation, number: int) -> None:
    """So many turns with a call each, whose result the next one tells."""
    had: tuple[str, ...] = ()
    for _ in range(number):
        call = worker.planned_call()
        claim = worker.model_claim(replace(worker.user_message(f"after {worker.turn}"), effects=had))
        granted = await worker.ledger.claim(claim)
        assert isinstance(granted, Granted)
        recorded = worker.turn_record(claim, granted.token, call)
        await worker.ledger.record_turn(recorded)
        worker.turn, worker.head = claim.turn, recorded.next_head
        attempt = await worker.grant(call)
        await worker.record(call, attempt.token, EffectState.DONE)
        had = (call.effect_id,)


async def rows_read(database: Database, at: Conversation, owner: asyncpg.Connection, number: int) -> int:
    """Rows that Postgres reads in so many turns. A connection tells what it read at the latest as it ends."""
    before = await owner.fetchval(READ)
    async with connected(database, at) as worker:
        await take_turns(worker, number)
    at.turn, at.head, at.said = worker.turn, worker.head, worker.said

    async def ended() -> bool:
        return not await owner.fetchval(WORKING)

    await until(ended, "the worker's connections to end")
    return int(await owner.fetchval(READ) - before)


async def test_postgres_reads_no_more_rows_in_a_late_turn_than_in_an_early_one(
    database: Database, owner: asyncpg.Connection
) -> None:
    async with connected(database) as session:
        await session.open()
    early = await rows_read(database, session, owner, 10)
    await rows_read(database, session, owner, 60)
    assert await rows_read(database, session, owner, 10) <= early * 1.2


async def test_postgres_reads_no_more_rows_in_a_turn_among_3000_effects_it_has_statistics_of(
    database: Database, owner: asyncpg.Connection
) -> None:
    async with connected(database) as session:
        await session.open()
    early = await rows_read(database, session, owner, 10)
    await owner.execute(
        """INSERT INTO holdfast.effect (effect_id, session_key, kind, turn, recovery, fingerprint, saga_id, state)
        SELECT md5(n::text), session_key, 'call', 0, 'retry', 'x', $1, 'DONE'
        FROM holdfast.session, generate_series(1, 3000) AS n""",
        session.saga_id,
    )
    await owner.execute("ANALYZE holdfast.effect")
    assert await rows_read(database, session, owner, 10) <= early * 1.2
