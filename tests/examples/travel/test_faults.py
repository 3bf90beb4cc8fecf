"""Injected faults do what their names say: `*_after` carried it out, `*_before` did not."""

from __future__ import annotations

import asyncio
import signal
from time import monotonic
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.examples.travel.conftest import DeskProcess

MAIL: dict[str, Any] = {"to": "ada@example.com", "subject": "Your flight", "body": "It leaves at 07:25."}


async def test_a_connection_dropped_after_the_effect_had_its_effect(desk: DeskProcess) -> None:
    await desk.break_next("/mail/*", "drop_after")
    with pytest.raises(httpx2.TransportError):
        await desk.post("/mail/messages", MAIL, key="drop after")
    assert (await desk.became("drop after"))["state"] == "landed"
    assert await desk.outcomes("drop after") == ["carried_out"]


async def test_a_connection_dropped_before_the_effect_had_none(desk: DeskProcess) -> None:
    await desk.break_next("/mail/*", "drop_before")
    with pytest.raises(httpx2.TransportError):
        await desk.post("/mail/messages", MAIL, key="drop before")
    assert await desk.became("drop before") == {"state": "never_seen"}
    assert await desk.outcomes("drop before") == []


async def test_dropping_one_connection_leaves_the_others_alone(desk: DeskProcess) -> None:
    await desk.break_next("/hotel/*", "stall_before", seconds=0.3)
    other = asyncio.create_task(desk.get("/hotel/reservations/HTL-5502"))
    await desk.fault_was_taken()
    await desk.break_next("/mail/*", "drop_before")
    with pytest.raises(httpx2.TransportError):
        await desk.post("/mail/messages", MAIL, key="dropped alone")
    assert (await other).status_code == 200


@pytest.mark.parametrize(
    ("kind", "status", "becomes"),
    [
        ("fail_500", 500, "never_seen"),
        ("fail_before", 503, "never_seen"),
        ("fail_after", 500, "landed"),
        ("refuse_402", 402, "refused"),
    ],
)
async def test_a_failing_answer_and_what_became_of_the_effect(
    desk: DeskProcess, kind: str, status: int, becomes: str
) -> None:
    await desk.break_next("/mail/*", kind)
    assert (await desk.post("/mail/messages", MAIL, key=kind)).status_code == status
    assert (await desk.became(kind))["state"] == becomes


async def test_a_stalled_answer_comes_late_but_its_effect_came_at_once(desk: DeskProcess) -> None:
    await desk.break_next("/mail/*", "stall_after", seconds=0.5)
    begun = monotonic()
    late = asyncio.create_task(desk.post("/mail/messages", MAIL, key="late"))
    await desk.has_landed("late")
    assert not late.done()
    assert (await late).status_code == 200
    assert monotonic() - begun >= 0.5


async def test_a_request_whose_caller_gave_up_may_still_land(desk: DeskProcess) -> None:
    await desk.break_next("/mail/*", "stall_before", seconds=0.3)
    given_up = asyncio.create_task(desk.post("/mail/messages", MAIL, key="given up"))
    await desk.fault_was_taken()
    given_up.cancel()
    await desk.has_landed("given up")


async def test_a_fault_strikes_its_path_as_often_as_told(desk: DeskProcess) -> None:
    await desk.break_next("/mail/*", "fail_500", times=2)
    assert (await desk.get("/hotel/reservations/HTL-5501")).status_code == 200
    statuses = [(await desk.post("/mail/messages", MAIL, key="thrice")).status_code for _ in range(3)]
    assert statuses == [500, 500, 200]


async def test_a_fault_nobody_knows_is_refused_by_name(desk: DeskProcess) -> None:
    answer = await desk.post("/_faults", [{"path": "/mail/*", "kind": "explode"}])
    assert answer.status_code == 422
    assert "kind" in answer.json()["error"]["message"]


async def test_sigterm_ends_the_process_with_code_0_even_with_a_request_stalled(
    start_desk: Callable[[Path], DeskProcess], tmp_path: Path
) -> None:
    desk = start_desk(tmp_path)
    await desk.break_next("/mail/*", "stall_after", seconds=60)
    stalled = asyncio.create_task(desk.post("/mail/messages", MAIL, key="stalled"))
    await desk.has_landed("stalled")
    assert await asyncio.to_thread(desk.stop, signal.SIGTERM) == 0
    stalled.cancel()
    await asyncio.gather(stalled, return_exceptions=True)
