"""The worker is killed at every write of a saga, and at every undo: what was sent is found again, and sent once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from holdfast.states import SagaState
from holdfast_activities.faults import FaultPoint
from holdfast_workers.chaos.armed import Armed, Armory
from holdfast_workers.stack.ports import free_port
from holdfast_workers.stack.servers import ServerAddresses
from tests.examples.travel.conftest import DeskProcess
from tests.sagas.conftest import NEW_DAY, Sagas, opened

WRITES = ("seat", "change", "hotel", "money", "mail")
FORWARD = ("hold_seat", "change_booking", "move_hotel", "refund", "send_mail")
BACKWARD = ("move_hotel_back", "change_booking_back", "release_seat")
POINTS = (
    FaultPoint.AFTER_CLAIM,
    FaultPoint.AFTER_DISPATCH_BEFORE_RESPONSE,
    FaultPoint.AFTER_RESPONSE_BEFORE_RECORD,
    FaultPoint.AFTER_RECORD_BEFORE_COMPLETION,
)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(("tools", "outcome"), [(FORWARD, SagaState.COMMITTED), (BACKWARD, SagaState.ABORTED)])
async def test_a_saga_ends_as_it_must_though_its_worker_dies_at_every_step(
    servers: ServerAddresses,
    template: str,
    saga_desk: DeskProcess,
    tmp_path: Path,
    point: FaultPoint,
    tools: Sequence[str],
    outcome: SagaState,
) -> None:
    armory = Armory(tmp_path / "armed")
    armory.path.mkdir()
    armed = [Armed(number, point, tool, "crash") for number, tool in enumerate(tools)]
    for each in armed:
        armory.arm(each)
    async with opened(servers, template, saga_desk, tmp_path, work=False) as house, worked(house, armory):
        (booking,) = await house.bookings(1)
        saga = house.new_id()
        if outcome is SagaState.ABORTED:
            await house.breaks(saga, "money", "refuse_402")
        await house.start("travel.rebook", {"booking_id": booking, "date": NEW_DAY}, saga)
        result = await asyncio.wait_for(house.result(saga), 380)
        logged = await house.logged(saga, WRITES)
        assert await house.verified(saga)
    assert result.outcome is outcome, result.reason
    assert all(armory.struck(each) for each in armed)
    assert len(logged.carried_out) == len(set(logged.carried_out))
    assert logged.standing == (set(WRITES) if outcome is SagaState.COMMITTED else set())


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "point", [point for point in POINTS if point is not FaultPoint.AFTER_DISPATCH_BEFORE_RESPONSE]
)
@pytest.mark.parametrize(
    ("tools", "last", "text", "outcome"),
    [
        (("write_file", "edit_file"), "two", "1 2", SagaState.COMMITTED),
        (("write_file", "edit_file", "restore_file"), "nowhere in it", None, SagaState.ABORTED),
    ],
)
async def test_edits_land_whole_or_not_at_all_though_their_worker_dies(
    servers: ServerAddresses,
    template: str,
    saga_desk: DeskProcess,
    tmp_path: Path,
    point: FaultPoint,
    tools: Sequence[str],
    last: str,
    text: str | None,
    outcome: SagaState,
) -> None:
    armory = Armory(tmp_path / "armed")
    armory.path.mkdir()
    armed = [Armed(number, point, tool, "crash") for number, tool in enumerate(tools)]
    for each in armed:
        armory.arm(each)
    changes = [
        {"kind": "write", "path": "plan.md", "content": "one two"},
        {"kind": "edit", "path": "plan.md", "old": "one", "new": "1"},
        {"kind": "edit", "path": "plan.md", "old": last, "new": "2"},
    ]
    async with opened(servers, template, saga_desk, tmp_path, work=False) as house, worked(house, armory):
        saga = await house.start("files.apply_changes", {"changes": changes})
        result = await asyncio.wait_for(house.result(saga), 380)
        assert await house.verified(saga)
        plan = house.workspace / "plan.md"
        assert (plan.read_text() if plan.exists() else None) == text
    assert result.outcome is outcome, result.reason
    assert all(armory.struck(each) for each in armed)


@asynccontextmanager
async def worked(house: Sagas, armory: Armory) -> AsyncIterator[None]:
    """A worker, and another one whenever it has died."""
    keeping = asyncio.create_task(_keep(house, armory))
    yield
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping


async def _keep(house: Sagas, armory: Armory) -> None:
    while True:
        worker = await _spawn(house, armory)
        try:
            await worker.wait()
        except asyncio.CancelledError:
            worker.kill()
            await worker.wait()
            raise


async def _spawn(house: Sagas, armory: Armory) -> asyncio.subprocess.Process:
    settings = house.settings
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "holdfast_workers.chaos.worker"),
        *("--health-port", str(free_port()), "--faults", str(armory.path)),
        env={
            **os.environ,
            "HOLDFAST_HOME": str(settings.home),
            "HOLDFAST_CONFIG": str(settings.config),
            "HOLDFAST_DSN": str(settings.dsn),
            "HOLDFAST_TASK_QUEUE": settings.task_queue,
            "HOLDFAST_SCRIPTED_MODEL": str(settings.model.base_url),
            "TEMPORAL_ADDRESS": str(settings.temporal.address),
            "TEMPORAL_NAMESPACE": str(settings.temporal.namespace),
            "TEMPORAL_CONFIG_FILE": "/dev/null",
        },
        cwd=Path(__file__).parents[2],
    )
