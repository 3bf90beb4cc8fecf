"""One database and one event loop for the directory; a scene is a fresh session with one call of each class."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from holdfast import ids
from holdfast.config import Config
from holdfast.contracts import Authorization, CallOutcome, ExecuteCall, SagaRef
from holdfast.facts import Fact, Kind
from holdfast.messages import Principal
from holdfast.states import EffectState, RecoveryClass
from holdfast_activities import execute_call as execute_call_module
from holdfast_activities.calls import attempt as call_attempt
from holdfast_activities.calls import undertaking
from holdfast_activities.execute_call import CallExecutions
from holdfast_activities.resources import Resources
from holdfast_activities.tools.arguments import CheckedCall, check_call
from holdfast_activities.tools.book import ToolBook, catalogue_body
from holdfast_ledger.records import PlannedCall, Recorded, Resolution
from holdfast_ledger.store import Ledger
from holdfast_ledger.verify import verify_session
from holdfast_workers.stack.servers import ServerAddresses
from tests.conftest import cloned
from tests.ledger.conftest import START, Conversation
from tests.protocol.simulated import Clock, OwnDatabase, Process, Service, factory

HERE = Path(__file__).parent
CLASSES = tuple(RecoveryClass)
PROMISED = tuple(each for each in RecoveryClass if each is not RecoveryClass.RETRY)
"""Classes whose effect happens at most once."""
T = TypeVar("T")

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile(  # the same examples in every run: what is new is looked for by `make protocol`
    "suite",
    max_examples=80,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=_SLOW,
    derandomize=True,
    database=None,
)
settings.register_profile(
    "chaos", max_examples=600, stateful_step_count=40, deadline=None, suppress_health_check=_SLOW, print_blob=True
)


@dataclass
class Scene:
    """A session with one planned call of each class, the workers that run them, and what they called."""

    conversation: Conversation
    executions: CallExecutions
    catalogue: str
    service: Service
    calls: dict[RecoveryClass, PlannedCall] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    head: str = ""

    def request(self, recovery: RecoveryClass, *, epoch: int = 1) -> ExecuteCall:
        call = self.calls[recovery]
        return ExecuteCall(
            session_id=self.conversation.session_id,
            turn=1,
            head=self.head,
            call=call.call,
            tool_use_id=call.tool_use_id,
            tool=call.tool,
            digest=call.digest,
            catalogue=self.catalogue,
            saga=SagaRef(id=self.conversation.saga_id, epoch=epoch),
            authorization=Authorization(verdict="allow", rule="tier"),
            attempts=4,
        )

    async def run(
        self,
        recovery: RecoveryClass,
        *,
        attempt: int = 1,
        crash_at: str | None = None,
        stall_at: str | None = None,
    ) -> tuple[Process, CallOutcome | Exception | None]:
        """One attempt in a process of its own, until it ends, dies or stalls."""
        process = Process(
            service=self.service, effect_id=self.calls[recovery].effect_id, crash_at=crash_at, stall_at=stall_at
        )
        self.processes.append(process)
        process.start(self.executions.execute_call, self.request(recovery), attempt=attempt)
        return process, await process.until_it_stops()

    async def settle(self, recovery: RecoveryClass, *, attempt: int = 2) -> CallOutcome:
        """Attempts, each after the last one's lease, until one returns an outcome: what Temporal does.

        `attempt`: Temporal's number of the first; after an activity reset it is 1 again.
        """
        for later in range(8):
            await self.expire(recovery)
            _, outcome = await self.run(recovery, attempt=attempt + later)
            if isinstance(outcome, CallOutcome):
                return outcome
        raise AssertionError(f"{recovery} is never settled: {outcome!r}")

    async def expire(self, recovery: RecoveryClass) -> None:
        """Time goes on beyond the lease, on the database's clock."""
        await self.conversation.owner.execute(
            """UPDATE holdfast.effect SET lease_until = clock_timestamp() - interval '1 second'
            WHERE effect_id = $1 AND state = 'CLAIMED'""",
            self.calls[recovery].effect_id,
        )

    async def outlive_the_key(self, recovery: RecoveryClass) -> None:
        """More time goes on than the service remembers keys."""
        self.service.forget()
        await self.conversation.owner.execute(
            """UPDATE holdfast.effect SET first_claimed_at = first_claimed_at - interval '25 hours'
            WHERE effect_id = $1""",
            self.calls[recovery].effect_id,
        )

    async def cancel_call(self, recovery: RecoveryClass) -> None:
        """The workflow gave the call up and tells the ledger."""
        call = self.calls[recovery]
        fact = Fact(
            key=f"cancelled:{call.call}",
            kind=Kind.CALL_DECIDED,
            at=START,
            call=call.call,
            outcome="cancelled",
            body={"reason": "stopped", "digest": call.digest},
        )
        await self.conversation.ledger.append(self.conversation.session_id, (fact,))

    async def close_request(self) -> None:
        """The request ended otherwise than by its last turn."""
        fact = Fact(
            key="request-closed",
            kind=Kind.REQUEST_CLOSED,
            at=START,
            saga_id=self.conversation.saga_id,
            outcome="aborted",
            body={"reason": "ana stopped it"},
        )
        await self.conversation.ledger.append(self.conversation.session_id, (fact,))

    async def raise_epoch(self) -> None:
        await self.conversation.owner.execute(
            "UPDATE holdfast.saga SET epoch = epoch + 1 WHERE id = $1", self.conversation.saga_id
        )

    async def disable(self, recovery: RecoveryClass) -> None:
        await self.conversation.owner.execute(
            "INSERT INTO holdfast.kill_switch (tool, reason, disabled_by) VALUES ($1, 'an incident', 'ana')"
            " ON CONFLICT DO NOTHING",
            self.calls[recovery].tool,
        )

    async def enable_all(self) -> None:
        await self.conversation.owner.execute("DELETE FROM holdfast.kill_switch")

    async def resolve(self, recovery: RecoveryClass, state: EffectState, *, resolution: str = "r1") -> Recorded:
        """A person looked it up."""
        status = "ok" if state is EffectState.DONE else "error"
        found = Resolution(
            id=resolution,
            effect_id=self.calls[recovery].effect_id,
            session_id=self.conversation.session_id,
            state=state,
            by="bo",
            reason="asked the bank",
            outcome={"status": status, "text": "bo checked"},
        )
        return await self.conversation.ledger.resolve(found)

    async def row(self, recovery: RecoveryClass) -> asyncpg.Record:
        return await self.conversation.effect(self.calls[recovery])

    async def state(self, recovery: RecoveryClass) -> str:
        return str((await self.row(recovery))["state"])

    async def happened(self, recovery: RecoveryClass) -> int:
        """How often the effect was carried out, by the service's own count."""
        key = self.calls[recovery].effect_id
        if recovery is RecoveryClass.TRANSACTIONAL:
            query = "SELECT count(*) FROM protocol_note WHERE effect_id = $1"
            return int(await self.conversation.owner.fetchval(query, key))
        return self.service.effects[key]

    def sent(self) -> int:
        """How often any process began to carry something out."""
        return sum(process.sent for process in self.processes)

    async def end(self) -> None:
        """Nothing goes on; each request had its intent, and the chain holds."""
        for process in self.processes:
            await process.kill()
        await self.enable_all()
        assert not self.service.unannounced
        database = self.conversation.ledger.database
        checked = await verify_session(database, self.conversation.session_id)
        assert checked.ok, checked


@dataclass
class Stage:
    loop: asyncio.AbstractEventLoop
    ledger: Ledger
    owner: asyncpg.Connection
    executions: CallExecutions
    book: ToolBook

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    async def scene(self) -> Scene:
        principal = Principal(requested_by="ana")
        digest, body = catalogue_body(self.book.catalogue("default", principal))
        conversation = Conversation(ledger=self.ledger, owner=self.owner, session_id=f"s-{secrets.token_hex(6)}")
        await conversation.open(catalogue=body, catalogue_digest=digest)
        scene = Scene(
            conversation=conversation,
            executions=self.executions,
            catalogue=digest,
            service=Service(self.owner),
            head=conversation.head,
        )
        for recovery in CLASSES:
            scene.calls[recovery] = self._planned(conversation, recovery)
        await conversation.take_turn(*scene.calls.values())
        return scene

    def _planned(self, conversation: Conversation, recovery: RecoveryClass) -> PlannedCall:
        card = self.book.find(f"protocol_tools:{recovery.value}")
        checked = check_call(self.book.tool(card), card, {"n": 1})
        assert isinstance(checked, CheckedCall), checked
        return conversation.planned_call(
            tool=recovery.value,
            tier=checked.tier,
            recovery=checked.recovery,
            args=checked.args,
            digest=ids.salted_digest(b"salt", checked.args),
        )


@pytest.fixture(scope="session")
def stage(servers: ServerAddresses, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Sync tests drive this loop, since Hypothesis's rules are sync; the suite's own loop rests meanwhile."""
    loop = asyncio.new_event_loop()
    loop.set_task_factory(factory)
    patch = pytest.MonkeyPatch()
    for module in (call_attempt, execute_call_module, undertaking):
        patch.setattr(module, "time", Clock)
    context = cloned(servers, template)
    addresses = loop.run_until_complete(context.__aenter__())
    stage = loop.run_until_complete(_set(loop, addresses.dsn, addresses.owner_dsn, tmp_path_factory.mktemp("work")))
    yield stage
    loop.run_until_complete(_strike(stage))
    loop.run_until_complete(context.__aexit__(None, None, None))
    patch.undo()
    loop.close()


async def _set(loop: asyncio.AbstractEventLoop, dsn: str, owner_dsn: str, workspace: Path) -> Stage:
    ledger = Ledger(await OwnDatabase.connect(dsn, min_size=1, max_size=8, pgbouncer=False))
    owner = await asyncpg.connect(owner_dsn)
    await owner.execute("CREATE TABLE protocol_note (effect_id text); GRANT INSERT ON protocol_note TO PUBLIC")
    tools = [f"protocol_tools:{recovery.value}" for recovery in CLASSES]
    book = ToolBook(Config.model_validate({"agents": {"default": {"tools": tools}}}), HERE)
    executions = CallExecutions(
        ledger=ledger,
        book=book,
        resources=Resources(workspace=workspace, read_result=ledger.result),
        secrets={},
        worker="worker-1",
        observe=lambda report: None,
    )
    return Stage(loop=loop, ledger=ledger, owner=owner, executions=executions, book=book)


async def _strike(stage: Stage) -> None:
    await stage.executions.close()
    await stage.owner.close()
    await stage.ledger.close()
