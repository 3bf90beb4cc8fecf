"""A turn that is stopped while the model talks: what was said is kept, the stream is closed."""

import asyncio
from decimal import Decimal

import asyncpg
import psutil
import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError

from holdfast_activities.messages_api.keeping import INTERRUPTED
from holdfast_ledger.records import Granted
from tests.waiting import until, until_locked_out

from .conftest import environment

SCRIPT = """
name: story
description: Tells a long story, and looks something up.
example: a story please
match: story
turns:
  - text: Once upon a time there was a model that told a long story to nobody in particular.
    calls: [{tool: lookup, input: {city: Paris}}]
---
name: chat
description: Talks.
example: hello
match: ^hello
turns:
  - text: Hello.
"""
AFTER_SOME_WORDS = {"kind": "stall", "seconds": 30, "after_events": 6}
AFTER_THE_CALL = {"kind": "stall", "seconds": 30, "after_events": 99}
"""Everything but the last event has come."""
BEFORE_ANY_WORD = {"kind": "stall", "seconds": 30}


class Running:
    """One attempt under way; the model stalls, so that it goes no further by itself."""

    def __init__(self, session, request):
        self.env = environment()
        self.beats = 0
        self.env.on_heartbeat = self._beat
        self.task = asyncio.create_task(session.attempt(request, self.env))

    def _beat(self, *details):
        self.beats += 1

    async def stops(self, **reason):
        self.env.cancel(ActivityCancellationDetails(**reason))
        return await asyncio.wait_for(self.task, 5)


@pytest.fixture
def stalled(start, model):
    """Start a turn, and wait until the model fell silent after `words` chunks."""

    async def starting(fault, chunks):
        session = await start()
        request = session.asks("a story please")
        model.inject(fault)
        attempt = Running(session, request)
        await model.received(1)
        await until(lambda: len(session.chunks.chunks) >= chunks, "chunks")
        return session, request, attempt

    return starting


async def test_an_interrupt_records_what_was_said(stalled, model):
    session, request, attempt = await stalled(AFTER_SOME_WORDS, 2)
    result = await attempt.stops(cancel_requested=True)
    assert (result.interrupted, result.stop_reason, result.calls) == (True, "interrupted", ())
    assert not result.committed
    session.goes_on(request, result)
    said = (await session.spoken())[0]["text"]
    assert said.startswith("Once upon a time")
    assert not said.endswith("in particular.")
    assert said == "".join(chunk.text for chunk in session.chunks.chunks)


async def test_an_interrupted_session_goes_on(stalled, model):
    session, request, attempt = await stalled(AFTER_THE_CALL, 2)
    await until(lambda: session.chunks.chunks[-1].kind == "tool_use", "the call")
    session.goes_on(request, await attempt.stops(cancel_requested=True))
    assert (await session.says("hello")).text == "Hello."


async def test_an_interrupt_before_any_word_says_so(stalled):
    session, request, attempt = await stalled(BEFORE_ANY_WORD, 0)
    result = await attempt.stops(cancel_requested=True)
    assert result.text == INTERRUPTED
    session.goes_on(request, result)
    assert await session.spoken() == [{"type": "text", "text": INTERRUPTED}]


async def test_an_interrupted_turn_is_billed_as_if_it_had_gone_on(stalled):
    """The API counts at the end only; a budget must not count less than was spent."""
    session, _, attempt = await stalled(AFTER_SOME_WORDS, 2)
    result = await attempt.stops(cancel_requested=True)
    most = session.catalogue.agent.max_tokens
    assert result.usd == (result.usage.input * 2 + most * 10) / Decimal(1_000_000)
    assert result.usage.output < most


def connections(model):
    """Open connections of this process to the model's port."""
    port = int(model.url.rpartition(":")[2])
    open_ones = psutil.Process().net_connections("tcp")
    return [each for each in open_ones if each.raddr and each.raddr.port == port and each.status == "ESTABLISHED"]


async def test_an_interrupt_closes_the_stream(stalled, model):
    _, _, attempt = await stalled(AFTER_SOME_WORDS, 2)
    assert connections(model)
    await attempt.stops(cancel_requested=True)
    assert not connections(model)


async def test_an_interrupt_that_comes_after_the_last_word_changes_nothing(start, database):
    session = await start()
    owner = await asyncpg.connect(database.owner_dsn)
    try:
        lock = owner.transaction()
        await lock.start()
        await owner.execute("LOCK TABLE holdfast.turn IN EXCLUSIVE MODE")  # the record waits for it
        request = session.asks("hello")
        attempt = Running(session, request)
        await until(lambda: "".join(chunk.text for chunk in session.chunks.chunks) == "Hello.", "the answer")
        await until_locked_out(owner, 1)
        attempt.env.cancel(ActivityCancellationDetails(cancel_requested=True))
        await lock.rollback()
    finally:
        await owner.close()
    result = await asyncio.wait_for(attempt.task, 5)
    assert (result.interrupted, result.text, result.committed) == (False, "Hello.", True)


@pytest.mark.parametrize("reason", ["worker_shutdown", "paused", "reset", "not_found", "timed_out"])
async def test_any_other_stop_releases_the_turn_for_the_next_attempt(stalled, model, reason):
    session, request, attempt = await stalled(AFTER_SOME_WORDS, 2)
    with pytest.raises(asyncio.CancelledError):
        await attempt.stops(**{reason: True})
    assert (await session.row(request, "state"))["state"] == "OPEN"
    result = await session.attempt(request)
    assert result.stop_reason == "tool_use"
    assert model.count == 2


async def test_an_interrupt_that_comes_before_the_request_costs_nothing(start, model, database):
    session = await start()
    owner = await asyncpg.connect(database.owner_dsn)
    try:
        lock = owner.transaction()
        await lock.start()
        await owner.execute("LOCK TABLE holdfast.saga IN EXCLUSIVE MODE")  # the claim waits for it
        request = session.asks("hello")
        attempt = Running(session, request)
        await until(lambda: attempt.beats, "the attempt to begin")
        attempt.env.cancel(ActivityCancellationDetails(cancel_requested=True))
        await lock.rollback()
    finally:
        await owner.close()
    result = await asyncio.wait_for(attempt.task, 5)
    assert (result.interrupted, result.usd) == (True, Decimal(0))
    assert model.count == 0


async def test_a_turn_beats_while_the_model_is_silent(stalled):
    _, _, attempt = await stalled(BEFORE_ANY_WORD, 0)
    await until(lambda: attempt.beats >= 2, "heartbeats")
    await attempt.stops(cancel_requested=True)


async def test_an_attempt_that_lost_its_lease_stops_and_leaves_the_newer_one_alone(stalled, ledger):
    session, request, attempt = await stalled(AFTER_SOME_WORDS, 2)
    newer = session.turns._claim(request)
    assert isinstance(await ledger.claim(newer), Granted)
    with pytest.raises(ApplicationError) as caught:
        await asyncio.wait_for(attempt.task, 5)
    assert caught.value.type == "EffectFenced"
    assert tuple(await session.row(request, "state, token")) == ("CLAIMED", 2)


async def test_a_paid_answer_is_recorded_when_postgres_is_back(stalled, model, wire, caplog):
    session, request, attempt = await stalled({"kind": "stall", "seconds": 0.3, "after_events": 6}, 2)
    await wire.cut()
    await until(lambda: "waits for Postgres" in caplog.text, "the first attempt to record")
    await wire.mend()
    result = await asyncio.wait_for(attempt.task, 10)
    assert result.stop_reason == "tool_use"
    assert (await session.row(request, "state"))["state"] == "DONE"
    assert await session.attempt(request) == result
    assert model.count == 1
