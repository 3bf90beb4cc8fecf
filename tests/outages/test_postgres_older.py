"""Postgres comes back older than the session, as from a backup: the session is held, and runs nothing by guess."""

from __future__ import annotations

from urllib.parse import urlsplit

from tests.conftest import execute
from tests.outages.conftest import Bench
from tests.waiting import until


class Backup:
    """A copy of a database, and the swap that puts it in the database's place."""

    def __init__(self, bench: Bench) -> None:
        self._server = bench.own.addresses.postgres_dsn
        self._name = urlsplit(bench.house.database.owner_dsn).path[1:]

    async def take(self) -> None:
        await self._quietly(f"CREATE DATABASE {self._name}_old TEMPLATE {self._name}")

    async def restore(self) -> None:
        await self._swap(aside="new", back="old")

    async def undo(self) -> None:
        await self._swap(aside="old", back="new")

    async def _swap(self, *, aside: str, back: str) -> None:
        name = self._name
        await self._quietly(
            f"ALTER DATABASE {name} RENAME TO {name}_{aside}", f"ALTER DATABASE {name}_{back} RENAME TO {name}"
        )
        await execute(self._server, f"ALTER DATABASE {name}_{aside} ALLOW_CONNECTIONS true")

    async def _quietly(self, *statements: str) -> None:
        """While nobody is connected."""
        name = self._name
        await execute(
            self._server,
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
            *statements,
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS true",
        )


async def test_a_session_newer_than_postgres_is_held_and_goes_on_when_the_newer_one_is_back(bench: Bench) -> None:
    bench.let_answer()
    backup = Backup(bench)
    session = await bench.house.start("hello")
    await bench.house.until(session, "idle")
    await backup.take()
    await bench.house.holdfast.send(session, "look", by="ann")
    await bench.house.model.received(3)
    await bench.house.until(session, "idle")

    await backup.restore()
    assert (await bench.cli("send", session, "hello")).code == 0
    held = await bench.cli("attach", session, "--until", "waiting")
    assert held.code == 6
    assert "Postgres is older than this session" in held.err
    shown = await bench.cli("session", "show", session)
    assert "Postgres is older than this session" in shown.out
    assert "holdfast session recheck" in shown.out
    assert (bench.house.model.count, bench.runs) == (3, ["look parcel"])

    assert (await bench.cli("session", "recheck", session)).code == 0
    assert (await bench.cli("attach", session, "--until", "waiting")).code == 6  # it looked, and nothing was better

    await backup.undo()
    assert (await bench.cli("session", "recheck", session)).code == 0
    await bench.house.model.received(4)
    await bench.house.until(session, "idle")
    assert bench.runs == ["look parcel"]
    assert (await bench.cli("ledger", "verify", session)).code == 0


async def test_a_decision_told_to_an_older_postgres_counts_in_the_newer_one(bench: Bench) -> None:
    bench.let_answer()
    backup = Backup(bench)
    session = await bench.house.start("hello")
    await bench.house.until(session, "idle")
    await backup.take()
    await bench.house.holdfast.send(session, "pay", by="ann")
    asked = await bench.house.until_asked(session)

    await backup.restore()
    await bench.house.holdfast.decide(session, asked["call"], approve=True, digest=asked["digest"], by="bob")
    await bench.house.until(session, "held")
    assert bench.runs == []

    await backup.undo()
    await bench.house.holdfast.look_again(session, by="ann")
    await bench.house.until(session, "idle")
    assert bench.runs == ["pay parcel"]


async def test_a_session_that_an_older_postgres_never_knew_is_held(bench: Bench) -> None:
    bench.let_answer()
    backup = Backup(bench)
    await bench.house.until(await bench.house.start("hello"), "idle")  # the worker is up
    await backup.take()
    session = await bench.house.start("pay", close_when_idle=True)
    asked = await bench.house.until_asked(session)

    await backup.restore()
    await bench.house.holdfast.decide(session, asked["call"], approve=True, digest=asked["digest"], by="bob")
    await bench.shows(session, "Postgres is older than this session")
    assert bench.runs == []

    await backup.undo()
    await bench.house.holdfast.look_again(session, by="ann")
    result = await bench.house.holdfast.result(session)
    assert result.status == "completed"
    assert bench.runs == ["pay parcel"]


async def test_a_message_stored_in_an_older_postgres_is_stored_again_by_sending_it_again(bench: Bench) -> None:
    bench.let_answer()
    backup = Backup(bench)
    session = await bench.house.start("hello")
    await bench.house.until(session, "idle")
    await backup.take()
    await bench.house.holdfast.send(session, "look", by="ann")
    await bench.house.model.received(3)
    await bench.house.until(session, "idle")
    await backup.restore()
    await bench.house.holdfast.send(session, "hello again", by="ann")
    await bench.house.until(session, "held")

    await backup.undo()
    await bench.house.holdfast.look_again(session, by="ann")
    await bench.house.until(session, "held")
    assert "is not stored" in (await bench.cli("session", "show", session)).out

    await bench.house.holdfast.send(session, "hello again", by="ann")
    await bench.house.holdfast.look_again(session, by="ann")
    last = (await bench.house.model.received(5))[-1]
    said = [str(message["content"]) for message in last.body["messages"]]
    assert sum("hello again" in each for each in said) == 2


async def test_a_result_that_an_older_postgres_lacks_is_never_told_as_nothing(bench: Bench) -> None:
    backup = Backup(bench)
    session = await bench.house.start("beside")
    asked = await bench.house.until_asked(session)
    await bench.until_run()
    await backup.take()  # in which `look` is still under way
    bench.let_answer()

    async def recorded() -> bool:
        (row,) = await bench.house.rows("SELECT state FROM holdfast.effect WHERE tool = 'look'")
        return bool(row["state"] == "DONE")

    await until(recorded, "the result of look")
    await backup.restore()
    await bench.house.holdfast.decide(session, asked["call"], approve=False, digest=asked["digest"], by="bob")
    await bench.shows(session, "Postgres is older than this session")
    assert bench.house.model.count == 1

    await backup.undo()
    await bench.house.holdfast.look_again(session, by="ann")
    last = (await bench.house.model.received(2))[-1]
    assert "parcel is fine" in str(last.body["messages"][-1]["content"])
    await bench.house.until(session, "idle")
    assert bench.runs == ["look parcel"]
