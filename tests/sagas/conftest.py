"""One house and one travel desk for all sagas of this directory, and what the desk itself says of each.

Sagas of all tests run side by side: a fault strikes at one idempotency key, which a step's name foretells.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from temporalio import activity
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle

from holdfast import ids
from holdfast.messages import Principal
from holdfast.saga_contracts import SagaResult, UnwindResult, unwind_id
from holdfast_activities.faults import FaultPoint
from holdfast_ledger.verify import verify_session
from holdfast_workers.client import Holdfast
from holdfast_workers.plugin import HoldfastPlugin
from holdfast_workers.settings import ModelSettings, Settings, TemporalSettings
from holdfast_workers.stack.servers import ServerAddresses
from holdfast_workers.temporal import connect_temporal
from holdfast_workers.worker import WorkerSettings, build_worker
from tests.conftest import Database, cloned
from tests.examples.travel.conftest import DeskProcess
from tests.waiting import until

CONFIG = """
sagas = [
    "travel_desk.sagas:rebook", "travel_desk.sagas:hold_party",
    "tests.sagas.bodies:hurried", "tests.sagas.bodies:blind",
]
[workspace]
path = "workspace"
[effects]
lease = "2s"
renewal = "500ms"
"""
OLD_DAY, NEW_DAY = "2030-03-12", "2030-03-13"
CHEAPEST = "OSLMAD-0313-0725"
ANN = Principal(requested_by="ann")
ENDS_WITHIN_S = 60.0
LOOK_EVERY_S = 0.05


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Waiting out the heartbeats of dead workers takes minutes: that is `make protocol`'s."""
    whole = config.getoption("--hypothesis-profile") == "chaos"
    return True if collection_path.name == "test_lost_workers.py" and not whole else None


def effect_of(saga_id: str, step: str) -> str:
    """Id of a step's effect: its idempotency key, too."""
    return ids.effect_id(saga_id, f"step/{step}", "", 0)


@dataclass(frozen=True)
class Logged:
    """What the desk carried out for one saga, in order: `seat`, or `seat:undo`."""

    carried_out: tuple[str, ...]

    @property
    def standing(self) -> set[str]:
        """Steps that were carried out and not undone."""
        done = set(self.carried_out)
        return {step for step in done if not step.endswith(":undo") and f"{step}:undo" not in done}

    @property
    def undone(self) -> list[str]:
        return [step.removesuffix(":undo") for step in self.carried_out if step.endswith(":undo")]


class Losses:
    """Attempts that are lost here once their tool has answered: the effect landed, and no record says so."""

    def __init__(self) -> None:
        self._coming: dict[tuple[str, str], asyncio.Event] = {}

    def lose(self, saga_id: str, step: str) -> asyncio.Event:
        """Lose the next attempt of the step; the event is set when it was lost."""
        return self._coming.setdefault((saga_id, step), asyncio.Event())

    def reach(self, point: FaultPoint, of: str) -> None:
        if point is not FaultPoint.AFTER_RESPONSE_BEFORE_RECORD or not activity.in_activity():
            return
        running = activity.info()
        if lost := self._coming.pop((running.workflow_id or "", running.activity_id), None):
            lost.set()
            raise RuntimeError("the attempt is lost")


@dataclass(frozen=True, kw_only=True)
class Sagas:
    """The house, for sagas."""

    holdfast: Holdfast
    desk: DeskProcess
    asking: httpx2.AsyncClient
    """Kept open: many sagas ask the desk all the time what became of them."""
    settings: Settings
    database: Database
    workspace: Path
    losses: Losses = field(default_factory=Losses)
    ids: list[str] = field(default_factory=list)

    def new_id(self) -> str:
        self.ids.append(f"saga-{secrets.token_hex(6)}")
        return self.ids[-1]

    async def start(self, name: str, args: Mapping[str, Any], saga_id: str | None = None) -> str:
        chosen = saga_id or self.new_id()
        await self.holdfast.start_saga(name, args, saga_id=chosen, principal=ANN)
        return chosen

    def handle(self, saga_id: str) -> WorkflowHandle[Any, Any]:
        return self.holdfast.temporal.get_workflow_handle(saga_id)

    async def breaks(self, saga_id: str, step: str, kind: str, **more: Any) -> None:
        await self.desk.break_next("*", kind, key=effect_of(saga_id, step), **more)

    async def struck(self, saga_id: str, step: str) -> None:
        """Wait until a fault at this step, or at its undo as `seat:undo`, was run into."""
        forward, _, undo = step.partition(":")
        key = effect_of(saga_id, forward) + (f":{undo}" if undo else "")

        async def gone() -> bool:
            return all(fault["key"] != key for fault in (await self.asking.get("/_faults")).json())

        await until(gone, f"the fault at {step} to strike", within=ENDS_WITHIN_S, pause=LOOK_EVERY_S)

    async def unwind(self, saga_id: str) -> UnwindResult:
        """As the sweep does for a saga whose run is dead."""
        await self.holdfast.start_unwind(saga_id, saga_id, by="sweep", reason="its workflow was terminated")
        return await self.holdfast.unwind_result(saga_id)

    async def result(self, saga_id: str) -> SagaResult:
        """How its run ended; of a run that was stopped, what the ledger says."""
        return await self.holdfast.saga_result(saga_id)

    async def status(self, saga_id: str) -> WorkflowExecutionStatus | None:
        return (await self.handle(saga_id).describe()).status

    async def runs(self, saga_id: str) -> bool:
        return await self.status(saga_id) is WorkflowExecutionStatus.RUNNING

    async def logged(self, saga_id: str, steps: tuple[str, ...]) -> Logged:
        """What the desk's own log says of the saga's steps and their undos."""
        names = {effect_of(saga_id, step): step for step in steps}
        names |= {f"{key}:1": step for key, step in names.items()}  # tried again after a refusal
        names |= {f"{effect_of(saga_id, step)}:undo": f"{step}:undo" for step in steps}
        entries = (await self.asking.get("/_log")).json()["entries"]
        carried = [entry for entry in entries if entry["outcome"] == "carried_out"]
        return Logged(tuple(names[e["idempotency_key"]] for e in carried if e["idempotency_key"] in names))

    async def verified(self, saga_id: str) -> bool:
        checked = await verify_session(self.holdfast.ledger.database, saga_id)
        return checked.ok

    async def activities(self, workflow_id: str) -> list[str]:
        """Ids of the activities that it scheduled, in order."""
        events = [event async for event in self.handle(workflow_id).fetch_history_events()]
        scheduled = [event.activity_task_scheduled_event_attributes for event in events]
        return [each.activity_id for each in scheduled if each.activity_id]

    async def compensations(self, saga_id: str) -> list[str]:
        return [each for each in await self.activities(unwind_id(saga_id)) if each.startswith("compensate-")]

    async def bookings(self, count: int) -> list[str]:
        answer = await self.desk.post("/_seed", {"bookings": count})
        booking_ids: list[str] = answer.json()["booking_ids"]
        return booking_ids


@pytest.fixture(scope="session")
def saga_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeskProcess]:
    desk = DeskProcess(tmp_path_factory.mktemp("saga desk"))
    yield desk
    desk.stop()


@pytest.fixture(scope="session")
async def sagas(
    servers: ServerAddresses, template: str, saga_desk: DeskProcess, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Sagas]:
    async with opened(servers, template, saga_desk, tmp_path_factory.mktemp("saga house")) as house:
        yield house


@asynccontextmanager
async def opened(
    servers: ServerAddresses, template: str, desk: DeskProcess, home: Path, *, work: bool = True
) -> AsyncIterator[Sagas]:
    """A database and, with `work`, a worker as production builds it."""
    (home / "holdfast.toml").write_text(CONFIG)
    workspace = home / "workspace"
    workspace.mkdir()
    async with cloned(servers, template) as database:
        settings = Settings(
            home=home,
            config=home / "holdfast.toml",
            dsn=database.dsn,
            task_queue=f"sagas-{secrets.token_hex(4)}",
            temporal=TemporalSettings(address=servers.temporal_address, namespace=servers.namespace, embedded=True),
            model=ModelSettings(provider="gateway", base_url="http://127.0.0.1:9", scripted=True),
        )
        losses = Losses()
        temporal = await connect_temporal(
            settings.temporal, plugins=[HoldfastPlugin(settings, faults=losses.reach, sweep_every=None)]
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(os.environ, "TRAVEL_DESK_URL", desk.url)
            async with await Holdfast.connect(settings) as holdfast, desk.client() as asking:
                asking.timeout = ENDS_WITHIN_S
                house = Sagas(
                    holdfast=holdfast,
                    desk=desk,
                    asking=asking,
                    settings=settings,
                    database=database,
                    workspace=workspace,
                    losses=losses,
                )
                if not work:
                    yield house
                    return
                worker = WorkerSettings(grace=timedelta(seconds=2))
                async with build_worker(temporal, task_queue=settings.task_queue, settings=worker):
                    yield house
