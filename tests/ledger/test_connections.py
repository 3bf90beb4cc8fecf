"""Connections go from hand to hand: as good as the pool's own, whatever became of the last statement on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from holdfast_ledger import connections as connections_module
from holdfast_ledger.connections import Connections
from tests.conftest import Database
from tests.waiting import until

MINE = "SELECT pg_backend_pid()"


@pytest.fixture
async def lent(database: Database) -> AsyncIterator[Connections]:
    pool = await asyncpg.create_pool(database.dsn, min_size=0, max_size=2)
    lent = Connections(pool)
    yield lent
    await lent.close()


async def pid(lent: Connections) -> int:
    return int((await lent.fetch(MINE))[0][0])


async def test_one_after_the_other_is_answered_by_the_same_connection(lent: Connections) -> None:
    assert len({await pid(lent) for _ in range(3)}) == 1


async def test_who_finds_none_free_gets_the_one_that_is_given_back(lent: Connections) -> None:
    held = [await lent.borrow() for _ in range(2)]
    waiting = [asyncio.create_task(pid(lent)) for _ in range(3)]
    with pytest.raises(TimeoutError):
        await lent.borrow(timeout=0.01)
    for connection in held:
        await lent.give_back(connection)
    assert len(await asyncio.gather(*waiting)) == 3


async def test_many_at_once_are_all_answered(lent: Connections) -> None:
    assert len(set(await asyncio.gather(*(pid(lent) for _ in range(50))))) <= 2


async def test_a_connection_that_postgres_ended_is_replaced(lent: Connections, owner: asyncpg.Connection) -> None:
    ended = await pid(lent)
    await owner.execute("SELECT pg_terminate_backend($1)", ended)

    async def gone() -> bool:
        return not await owner.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", ended)

    await until(gone, "the connection to end")
    try:
        assert await pid(lent) != ended
    except (asyncpg.PostgresError, OSError):  # the news came only with the next statement
        assert await pid(lent) != ended


async def test_a_statement_that_was_cut_off_leaves_no_connection_that_cannot_be_used(lent: Connections) -> None:
    slow = asyncio.create_task(lent.fetch("SELECT pg_sleep(60)"))
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"

    async def asked() -> bool:
        return bool((await lent.fetch(sleeping))[0][0])

    await until(asked, "the statement to be at work")
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    with pytest.raises(asyncpg.DivisionByZeroError):
        await lent.fetch("SELECT 1 / 0")
    assert len(await asyncio.gather(*(pid(lent) for _ in range(4)))) == 4


async def test_what_nobody_uses_goes_back_to_the_pool(lent: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections_module, "KEPT_S", 0.02)
    await pid(lent)

    await until(lent._pool.get_idle_size, "the pool to have it back")
    assert await pid(lent)


async def test_closing_waits_for_those_that_are_lent(database: Database) -> None:
    lent = Connections(await asyncpg.create_pool(database.dsn, min_size=0, max_size=2))
    connection = await lent.borrow()
    await pid(lent)
    closing = asyncio.create_task(lent.close())
    done, _ = await asyncio.wait({closing}, timeout=0.05)
    assert not done
    await lent.give_back(connection)
    await closing
    with pytest.raises(asyncpg.InterfaceError):
        await lent.borrow()
