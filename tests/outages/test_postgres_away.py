"""Postgres is lost in the middle of a session and comes back: the session waits, and nothing happens twice."""

from __future__ import annotations

import asyncio

import pytest

from tests.outages.conftest import Bench, said
from tests.waiting import until


async def test_a_session_that_ends_while_postgres_is_away_is_closed_when_it_is_back(bench: Bench) -> None:
    session = await bench.house.start("hello")
    await bench.house.until(session, "idle")
    async with bench.own.postgres.away():
        await bench.house.holdfast.close_session(session, by="ann")

        async def waits() -> bool:
            told = (await bench.house.handle(session).describe()).raw_description
            return [each.activity_id for each in told.pending_activities] == ["close"]

        await until(waits, "its end to be tried")
    await bench.house.until(session, "completed")
    closed = [entry for entry in await bench.house.entries(session) if entry["kind"] == "session_closed"]
    assert len(closed) == 1


async def test_a_write_that_landed_while_postgres_was_away_is_recorded_when_it_is_back(bench: Bench) -> None:
    session = await bench.house.start("move")
    await bench.until_run()
    async with bench.own.postgres.away():
        bench.let_answer()
        await bench.until_answered()
    await bench.house.until(session, "idle")
    assert bench.runs == ["move parcel"]
    [effect] = await bench.house.rows("SELECT state, token FROM holdfast.effect WHERE tool = 'move'")
    assert (effect["state"], effect["token"]) == ("DONE", 1)


async def test_an_answer_paid_for_while_postgres_was_away_is_not_asked_for_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.house.model.inject({"kind": "stall", "seconds": 0.7, "after_events": 1})
    session = await bench.house.start("hello")
    await bench.house.model.received(1)
    async with bench.own.postgres.away(), asyncio.timeout(20):
        while "waits for Postgres" not in caplog.text:  # noqa: ASYNC110 - a log tells
            await asyncio.sleep(0.02)
    await bench.house.until(session, "idle")
    assert bench.house.model.count == 1


async def test_an_approval_given_while_postgres_is_away_releases_the_call_once(bench: Bench) -> None:
    bench.let_answer()
    session = await bench.house.start("pay")
    asked = await bench.house.until_asked(session)
    async with bench.own.postgres.away():
        away = await bench.cli("approve", session, "1.1")
        assert away.code == 4
        assert "safe to try again" in away.err
        await bench.house.holdfast.decide(session, "1.1", approve=True, digest=asked["digest"], by="bob")
        assert bench.runs == []
    await bench.house.until(session, "idle")
    assert bench.runs == ["pay parcel"]


async def test_a_message_sent_while_postgres_is_away_is_refused_and_can_be_sent_again(bench: Bench) -> None:
    session = await bench.house.start("hello")
    await bench.house.until(session, "idle")
    async with bench.own.postgres.away():
        away = await bench.cli("send", session, "hello", "--id", "m-1")
        assert away.code == 4
    again = await bench.cli("send", session, "hello", "--id", "m-1", "--follow")
    assert again.code == 0
    assert bench.house.model.count == 2


async def test_a_follower_says_that_postgres_is_away_and_goes_on_when_it_is_back(bench: Bench) -> None:
    session = await bench.house.start("pay", close_when_idle=True)
    await bench.house.until_asked(session)
    bench.let_answer()
    async with bench.cli.process("attach", session) as follower:
        await said(follower, "waits for a person")
        async with bench.own.postgres.away():
            await said(follower, "Postgres")
        await bench.cli("approve", session)
        out, _ = await asyncio.wait_for(follower.communicate(), 20)
    assert follower.returncode == 0
    assert out == b"pay: ok\n"
