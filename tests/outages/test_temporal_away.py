"""Temporal is lost in the middle of a session and comes back with its database file: the session goes on."""

from __future__ import annotations

import asyncio

from tests.outages.conftest import Bench, said


async def test_a_call_that_ended_while_temporal_was_away_is_not_run_again(bench: Bench) -> None:
    session = await bench.house.start("move", close_when_idle=True)
    await bench.until_run()
    async with bench.own.temporal.away():
        bench.let_answer()
        await bench.until_answered()
    result = await asyncio.wait_for(bench.house.holdfast.result(session), 20)
    assert result.status == "completed"
    assert bench.runs == ["move parcel"]
    assert bench.house.model.count == 2


async def test_a_follower_says_that_temporal_is_away_and_goes_on_when_it_is_back(bench: Bench) -> None:
    session = await bench.house.start("pay", close_when_idle=True)
    await bench.house.until_asked(session)
    bench.let_answer()
    async with bench.cli.process("attach", session) as follower:
        await said(follower, "waits for a person")
        async with bench.own.temporal.away():
            away = await bench.cli("approve", session)
            assert away.code == 4
            address = bench.own.addresses.temporal_address
            assert f"Temporal does not answer at {address}" in away.err
            await said(follower, f"Temporal at {address} does not answer")
        assert (await bench.cli("approve", session)).code == 0
        out, _ = await asyncio.wait_for(follower.communicate(), 20)
    assert follower.returncode == 0
    assert out == b"pay: ok\n"
    assert bench.runs == ["pay parcel"]
