"""Code-defined sagas that the model starts: whole or not at all, asked about where they are final, told of."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from holdfast.config import Config
from holdfast_activities.tools.book import ToolBook
from tests.conftest import House
from tests.workflows.conftest import Runs
from tests.workflows.test_unwinding import children, idle_because

TRIPS = '''
from bench import look, pay, reserve
from pydantic import BaseModel

from holdfast_sagas import Saga, saga


class Trip(BaseModel):
    seconds: float = 0
    possible: bool = True


class Booked(BaseModel):
    said: str


@saga("bench.trip", "1", steps=(reserve, look))
async def trip(s: Saga, wanted: Trip) -> Booked:
    """Reserve a seat and a bed."""
    await s.step("seat", reserve, what="seat")
    await s.step("roof", look, what="roof", seconds=wanted.seconds)
    s.check("a trip is possible", wanted.possible)
    await s.step("bed", reserve, what="bed")
    return Booked(said="booked")


@saga("bench.paid", "1", steps=reserve, pivot=pay)
async def paid(s: Saga, wanted: Trip) -> Booked:
    """Reserve a seat and pay."""
    await s.step("seat", reserve, what="seat")
    await s.pivot("pay", pay, cents=500)
    return Booked(said="paid")
'''

SCENARIO = """
name: trip
description: Start a saga.
example: trip
match: 'trip(?P<args>.*)'
turns:
  - calls: [{tool: SAGA, input: {seconds: SECONDS, possible: POSSIBLE}}]
  - calls: [{tool: pay, input: {cents: 1}}]
  - text: "never"
"""


def scenario(saga: str, *, seconds: float = 0, possible: bool = True) -> str:
    plain = SCENARIO.replace("SAGA", saga).replace("SECONDS", str(seconds))
    return plain.replace("POSSIBLE", str(possible).lower())


@pytest.fixture
def trips(config: str, tmp_path: Path) -> str:
    """The bench's configuration, with sagas."""
    (tmp_path / "trips.py").write_text(TRIPS)
    sagas = 'sagas = ["trips:trip", "trips:paid"]\n'
    return sagas + config.replace('"bench:look", ', '"saga:bench.trip", "saga:bench.paid", "bench:look", ')


async def ended(house: House, kind: str) -> list[str]:
    rows = await house.rows(
        f"SELECT state FROM holdfast.saga WHERE id {'~' if kind == 'code' else '!~'} '/saga/' ORDER BY opened_at"
    )
    return [row["state"] for row in rows]


def told(house: House) -> str:
    """The last tool result the model was sent."""
    blocks = [block for message in house.model.requests[-1].body["messages"] for block in message["content"]]
    results = [block for block in blocks if isinstance(block, dict) and block.get("type") == "tool_result"]
    return json.dumps(results[-1])


@pytest.mark.golden
async def test_the_model_starts_a_saga_and_hears_what_it_returned(open_house, trips: str, runs: Runs) -> None:
    async with open_house(scenario("bench_trip"), config=trips) as house:
        session = await house.start("trip")
        await house.until_asked(session)
        assert runs() == ["reserve seat", "look roof", "reserve bed"]
        (saga,) = await children(house, session)
        assert saga.startswith(f"{session}/saga/1.1-")
        assert await ended(house, "code") == ["COMMITTED"]
        assert "booked" in told(house)
        await house.holdfast.abort(session, by="ann")  # of the request: the saga stands on its own
        said = await idle_because(house, session, "aborted by ann")
        assert said == "aborted by ann; standing, as sagas of their own: 1.1 bench_trip"
        assert "release" not in " ".join(runs())


async def test_a_saga_that_fails_is_undone_and_the_model_hears_that_nothing_stands(
    open_house, trips: str, runs: Runs
) -> None:
    async with open_house(scenario("bench_trip", possible=False), config=trips) as house:
        session = await house.start("trip")
        await house.until_asked(session)
        assert runs() == ["reserve seat", "look roof", "release seat"]
        assert await ended(house, "code") == ["ABORTED"]
        assert "a trip is possible" in told(house)
        assert "nothing stands" in told(house)
        assert '"is_error": true' in told(house)


async def test_a_saga_that_cannot_be_taken_back_asks_a_person_first(open_house, trips: str, runs: Runs) -> None:
    async with open_house(scenario("bench_paid"), config=trips) as house:
        session = await house.start("trip")
        asked = await house.until_asked(session)
        assert (asked["call"], runs()) == ("1.1", [])
        await house.holdfast.decide(session, "1.1", approve=True, digest=asked["digest"], by="bob")
        await house.model.received(2)
        assert runs() == ["reserve seat", "pay 500"]


async def test_aborting_the_session_aborts_the_saga_it_waits_for(open_house, trips: str, runs: Runs) -> None:
    async with open_house(scenario("bench_trip", seconds=30), config=trips) as house:
        session = await house.start("trip")
        await house.until_claimed("look")
        await house.holdfast.abort(session, by="ann")
        await idle_because(house, session, "aborted by ann")
        assert runs() == ["reserve seat", "look roof", "release seat"]
        assert await ended(house, "code") == ["ABORTED"]


def test_an_agent_that_names_a_saga_nobody_declared_is_refused_in_words(trips: str, tmp_path: Path) -> None:
    config = Config.model_validate(tomllib.loads(trips.replace("saga:bench.trip", "saga:bench.tripp")))
    assert any("did you mean `bench.trip`" in problem for problem in ToolBook(config, tmp_path).problems())
