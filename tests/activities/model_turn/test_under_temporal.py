"""The same under a real Temporal server and the production worker: who retries, and when a stop arrives."""

import json
import time
from datetime import timedelta

from holdfast_workers.worker import WorkerSettings, build_worker
from tests.waiting import until

STORY = """
name: story
description: Tells a story.
example: a story please
match: story
turns:
  - text: Once upon a time there was a model that told a long story to nobody in particular.
    faults: [{FAULT}]
"""
SILENCE = STORY.replace("FAULT", "kind: stall, seconds: 60, after_events: 6, times: 1")
BUSY = STORY.replace("FAULT", "kind: http_error, status: 429, retry_after: 1, times: 1")
CHUNKS = "SELECT count(*) FROM holdfast.chunk"


async def answer(house, session):
    """The last answer, and the state of its turn."""
    [row] = await house.rows(
        """SELECT c.body, t.stop_reason FROM holdfast.turn t JOIN holdfast.session s USING (session_key)
        JOIN holdfast.content c USING (session_key, digest) WHERE s.id = $1""",
        session,
    )
    return json.loads(row["body"])[0]["text"], row["stop_reason"]


async def talking(house):
    """Wait until watchers could see the first words."""
    await house.model.received(1)

    async def shown() -> int:
        return (await house.rows(CHUNKS))[0]["count"]

    await until(shown, "a chunk")


async def test_temporal_retries_when_the_model_says(open_house):
    async with open_house(BUSY) as house:
        began = time.monotonic()
        started = await house.holdfast.start("a story please")
        await house.until(started.session_id, "idle")
        assert house.model.count == 2
        assert time.monotonic() - began >= 1
        assert (await answer(house, started.session_id))[1] == "end_turn"


async def test_an_interrupt_arrives_while_the_model_talks(open_house):
    async with open_house(SILENCE) as house:
        started = await house.holdfast.start("a story please")
        await talking(house)
        began = time.monotonic()
        await house.holdfast.interrupt(started.session_id, by="ada")
        await house.until(started.session_id, "idle")
        assert time.monotonic() - began < 3
        text, reason = await answer(house, started.session_id)
        assert (text[:16], reason) == ("Once upon a time", "interrupted")
        assert house.model.count == 1


async def test_a_worker_that_stops_leaves_its_turn_to_the_next_one(open_house):
    async with open_house(SILENCE, work=False) as house:
        quick = WorkerSettings(grace=timedelta(0))
        async with build_worker(house.temporal, task_queue=house.settings.task_queue, settings=quick):
            started = await house.holdfast.start("a story please")
            await talking(house)
        async with build_worker(house.temporal, task_queue=house.settings.task_queue, settings=quick):
            await house.until(started.session_id, "idle")
        text, reason = await answer(house, started.session_id)
        assert (text[-11:], reason) == ("particular.", "end_turn")
        assert house.model.count == 2
