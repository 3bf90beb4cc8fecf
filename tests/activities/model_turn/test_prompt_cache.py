"""The provider's prompt cache holds from turn to turn, whoever sends the next one: only memory's steps lose it."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from holdfast.memory import Memory
from holdfast_ledger.store import Ledger

from .conftest import WEATHER

SCRIPT = WEATHER
TURNS = 10
STEPS = {"full": 0, "window": 3, "prune_results": 3}


def marks(body):
    """Where the breakpoints are: `system`, or the index of a message whose last block has one."""
    found = ["system"] if "cache_control" in body["system"][-1] else []
    return found + [i for i, message in enumerate(body["messages"]) if "cache_control" in message["content"][-1]]


def cached(body):
    """The bytes before the last breakpoint; the marks themselves are no part of what a provider compares."""
    upto = {**body, "messages": body["messages"][: marks(body)[-1] + 1]}
    plain = json.loads(
        json.dumps(upto), object_hook=lambda each: {k: each[k] for k in each if k != "cache_control"}
    )
    return [json.dumps(part) for part in (plain["tools"], plain["system"], *plain["messages"])]


@pytest.fixture
async def other(database):
    """The ledger as another worker process has it, with nothing read yet."""
    other = await Ledger.connect(database.dsn)
    yield other
    await other.close()


@pytest.mark.parametrize("strategy", STEPS)
async def test_what_one_worker_had_cached_the_next_one_sends_again_byte_by_byte(start, model, other, strategy):
    memory = Memory(strategy=strategy, above=1800, down_to=900)
    session, elsewhere = await start(memory=memory), await start(ledger=other, memory=memory)
    workers = [session.turns, elsewhere.turns]
    result = await session.says("the weather please")
    for number in range(TURNS):
        session.turns = workers[number % 2]
        result = await session.says(session.results(result, text=f"{number} {'sun and rain ' * 80}"))
    bodies = [request.body for request in model.requests if request.path == "/v1/messages"]
    lost = 0
    for before, now in pairwise(bodies):
        kept = cached(now)[: len(cached(before))] == cached(before)
        lost += not kept
        assert marks(now)[0] == "system"
        assert len(marks(now)) <= 4, "the API takes no more"
        assert not kept or marks(before)[-1] in marks(now), "what was written last is looked for"
    assert lost == STEPS[strategy]
    assert len(bodies) == TURNS + 1
    reports = session.reports + elsewhere.reports
    assert sum(report.usage.cache_read for report in reports) > 0
