"""How an attempt is told to stop: it ends by itself, or is cut off where it waits, and nothing is left behind."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.testing import ActivityEnvironment

from holdfast_activities.halt import Halt, wound_up


async def test_what_waits_is_cut_off_once_it_is_called() -> None:
    halt, cancelled = Halt(), asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    asyncio.get_running_loop().call_soon(halt.call, "cancel")
    await halt.cuts_off(wait())
    assert cancelled.is_set()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_what_ends_by_itself_is_not_touched_by_a_later_call() -> None:
    halt = Halt()
    await halt.cuts_off(asyncio.sleep(0))
    halt.call("cancel")
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_call_as_the_work_ends_cuts_nothing_off_afterwards() -> None:
    halt, wrong = Halt(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: wrong.append(context))

    async def call() -> None:
        halt.call("release")

    await halt.cuts_off(call())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert wrong == []


async def test_its_own_timeout_is_an_error_and_no_cut() -> None:
    async def fail() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await Halt().cuts_off(fail())


async def test_an_error_on_the_way_out_is_told() -> None:
    halt = Halt()

    async def fail_when_cut() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("could not be closed")

    asyncio.get_running_loop().call_soon(halt.call, "cancel")
    with pytest.raises(OSError, match="could not be closed"):
        await halt.cuts_off(fail_when_cut())


async def test_a_cancel_from_outside_is_no_cut() -> None:
    cut = asyncio.create_task(Halt().cuts_off(asyncio.Event().wait()))  # type: ignore[arg-type]  # waits for ever
    await asyncio.sleep(0)
    cut.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut


async def wind_up(attempt) -> str:
    return await ActivityEnvironment().run(wound_up, attempt)


async def test_a_cancelled_activity_waits_for_the_end_of_its_attempt() -> None:
    heard: list[str | None] = []
    began, release = asyncio.Event(), asyncio.Event()

    async def attempt(halt: Halt) -> str:
        began.set()
        await halt.called
        heard.append(halt.reason)
        await release.wait()
        return "recorded"

    activity = asyncio.create_task(wind_up(attempt))
    await began.wait()
    for _ in range(3):  # Temporal may say it more than once
        activity.cancel()
        await asyncio.sleep(0)
    assert not activity.done()
    release.set()
    assert await activity == "recorded"
    assert heard == ["release"]


async def test_an_attempt_that_released_its_claim_ends_as_cancelled() -> None:
    async def attempt(halt: Halt) -> None:
        return None

    with pytest.raises(asyncio.CancelledError):
        await wind_up(attempt)


async def test_what_an_attempt_raises_is_raised() -> None:
    async def attempt(halt: Halt) -> str:
        raise LookupError("not there")

    with pytest.raises(LookupError, match="not there"):
        await wind_up(attempt)


@pytest.mark.parametrize("began", [False, True])
async def test_an_attempt_that_is_cancelled_itself_ends_its_activity(began: bool) -> None:
    async def attempt(halt: Halt) -> str:
        await asyncio.Event().wait()
        return "never"

    before = asyncio.all_tasks()
    activity = asyncio.create_task(wound_up(attempt))
    await asyncio.sleep(0)
    (work,) = asyncio.all_tasks() - before - {activity}
    if began:
        await asyncio.sleep(0)
    work.cancel()
    done, _ = await asyncio.wait({activity}, timeout=1)
    activity.cancel()
    assert done
    assert activity.cancelled()
