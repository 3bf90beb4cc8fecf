"""A code-defined saga over the real ledger, driven activity by activity, and the test service its steps call."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
from temporalio.testing import ActivityEnvironment

from holdfast.config import Config
from holdfast.contracts import Authorization, SagaRef
from holdfast.messages import Principal
from holdfast.saga_contracts import (
    BeginUnwind,
    Compensate,
    EndUnwind,
    ExecuteStep,
    OpenSaga,
    SagaPlan,
    SettleEffect,
    StepOutcome,
    StepPlan,
    UnwindPlan,
)
from holdfast.states import EffectState, SagaState
from holdfast_activities.compensate import Compensations
from holdfast_activities.execute_call import CallExecutions
from holdfast_activities.resources import Resources
from holdfast_activities.saga_openings import SagaOpenings
from holdfast_activities.saga_steps import StepExecutions, step_id
from holdfast_activities.settle_effect import Settlements
from holdfast_activities.tools.book import ToolBook
from holdfast_activities.unwinding import Unwindings
from holdfast_ledger.store import Ledger
from holdfast_ledger.verify import verify_session
from holdfast_workers.stack.ports import free_port
from tests.activities.tools import conftest as tools_conftest
from tests.activities.tools.conftest import Service
from tests.ledger.conftest import START

HERE = Path(__file__).parent
service = tools_conftest.service
TOOLS = tuple(
    f"saga_tools:{name}" for name in ("book", "book_blindly", "book_and_ask", "book_oddly", "pay", "look")
)
Request = TypeVar("Request")
Answer = TypeVar("Answer")


@dataclass
class Desk:
    """One saga and the activities that work on it."""

    ledger: Ledger
    owner: asyncpg.Connection
    executions: CallExecutions
    book: ToolBook
    labels: dict[str, str]
    id: str = field(default_factory=lambda: f"saga-{secrets.token_hex(6)}")
    plan: SagaPlan = field(default_factory=SagaPlan)
    epoch: int = 1

    async def run(self, activity: Callable[[Request], Awaitable[Answer]], request: Request) -> Answer:
        answer: Answer = await ActivityEnvironment().run(activity, request)
        return answer

    async def open(self, **changes: Any) -> SagaPlan:
        opening = OpenSaga(
            saga_id=self.id,
            run_id="run-1",
            name=f"trip.{self.id}",
            version="1",
            source="digest",
            tools=TOOLS,
            principal=Principal(requested_by="ana", labels=self.labels),
            args={"booking": "TRV-1"},
            started_at=START,
        )
        openings = SagaOpenings(ledger=self.ledger, book=self.book)
        return await self.run(openings.open_saga, opening.model_copy(update=changes))

    def request(self, step: str, tool: str, *, pivot: bool = False, **args: Any) -> ExecuteStep:
        assert self.plan.saga is not None
        return ExecuteStep(
            saga=self.plan.saga,
            step=step,
            tool=tool,
            args=args,
            catalogue=self.plan.catalogue,
            salt=self.plan.salt,
            attempts=3,
            authorization=Authorization(verdict="allow", rule="saga"),
            pivot=pivot,
        )

    async def step(self, step: str, tool: str, *, pivot: bool = False, **args: Any) -> StepOutcome:
        return await self.run(
            StepExecutions(self.executions.surroundings).execute_step, self.request(step, tool, pivot=pivot, **args)
        )

    async def lose(self, step: str, tool: str, **args: Any) -> str:
        """Claim a step as a worker would that then dies; its lease is over. Returns the effect's id."""
        request = self.request(step, tool, **{"path": "ok", **args})
        steps = StepExecutions(self.executions.surroundings)
        catalogue = await self.ledger.catalogue(request.catalogue)
        card = catalogue.card(tool)
        assert card is not None
        checked = steps._checked(request, card)
        work = steps._undertaking(request, catalogue, card, checked)  # type: ignore[arg-type]  # the arguments fit
        await self.ledger.claim(work.claim)
        await self.owner.execute(
            "UPDATE holdfast.effect SET lease_until = clock_timestamp() - interval '1 s' WHERE effect_id = $1",
            work.claim.effect_id,
        )
        return work.claim.effect_id

    async def begin(self, run: str = "unwind-1", epoch: int | None = None) -> UnwindPlan:
        begin = BeginUnwind(
            session_id=self.id, saga_id=self.id, unwinder=run, epoch=epoch, reason="a mistake", by="ana"
        )
        plan = await self.run(Unwindings(ledger=self.ledger).begin_unwind, begin)
        self.epoch = plan.epoch
        return plan

    async def planned(self) -> StepPlan:
        """The only step that stands or may stand."""
        (step,) = (await self.begin(epoch=self.epoch)).steps
        return step

    async def compensate(self, step: str, tool: str = "unbook", **changes: Any) -> StepOutcome:
        request = Compensate(
            session_id=self.id,
            saga=SagaRef(id=self.id, epoch=self.epoch),
            undo_of=step_id(self.request(step, "book")),
            call=step,
            tool=tool,
            version="1",
            catalogue=self.plan.catalogue,
            by="ana",
        )
        compensations = Compensations(self.executions.surroundings)
        return await self.run(compensations.compensate, request.model_copy(update=changes))

    async def settle(self, step: str, tool: str) -> EffectState:
        request = SettleEffect(
            session_id=self.id,
            saga=SagaRef(id=self.id, epoch=self.epoch),
            effect_id=step_id(self.request(step, tool)),
            call=step,
            tool=tool,
            catalogue=self.plan.catalogue,
        )
        return await self.run(Settlements(self.executions.surroundings).settle_effect, request)

    async def end(self, state: SagaState) -> SagaState:
        ending = EndUnwind(session_id=self.id, saga_id=self.id, epoch=self.epoch, state=state)
        return await self.run(Unwindings(ledger=self.ledger).end_unwind, ending)

    async def disable(self, tool: str) -> None:
        await self.owner.execute(
            "INSERT INTO holdfast.kill_switch (tool, reason, disabled_by) VALUES ($1, 'an incident', 'ana')", tool
        )

    async def enable(self) -> None:
        await self.owner.execute("DELETE FROM holdfast.kill_switch")

    def key(self, step: str) -> str:
        """What the step is sent with."""
        return step_id(self.request(step, "book"))

    async def effects(self) -> dict[str, asyncpg.Record]:
        rows = await self.owner.fetch("SELECT * FROM holdfast.effect WHERE saga_id = $1", self.id)
        return {row["effect_id"]: row for row in rows}


@pytest.fixture
async def desk(
    shared_ledger: tuple[Ledger, asyncpg.Connection], service: Service, tmp_path: Path
) -> AsyncIterator[Desk]:
    ledger, owner = shared_ledger
    book = ToolBook(Config(), HERE)
    executions = CallExecutions(
        ledger=ledger,
        book=book,
        resources=Resources(workspace=tmp_path, read_result=ledger.result),
        secrets={},
        worker="worker-1",
        observe=lambda report: None,
    )
    labels = {"service": service.url, "nobody": f"http://127.0.0.1:{free_port()}"}
    desk = Desk(ledger=ledger, owner=owner, executions=executions, book=book, labels=labels)
    desk.plan = await desk.open()
    assert desk.plan.refused is None
    yield desk
    await desk.enable()
    await executions.close()
    assert (await verify_session(ledger.database, desk.id)).ok
