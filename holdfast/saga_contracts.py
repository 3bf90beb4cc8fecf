"""Activity contracts of sagas: running the steps of a code-defined one, and unwinding any.

A saga that a session's request opened and one that code defines are the same rows in Postgres, and one `Unwind`
serves both. Arguments and results of a code-defined saga's steps pass through its history, so they are small.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from pydantic import Field
from temporalio import activity

from holdfast.catalogue import ToolPlan
from holdfast.contracts import LEASE, Authorization, SagaRef
from holdfast.facts import Fact
from holdfast.messages import Principal
from holdfast.queues import Queues
from holdfast.states import CallStatus, EffectState, RecoveryClass, SagaState, Tier
from holdfast.wire import Wire

SAGA_WORKFLOW = "SagaRun"
UNWIND_WORKFLOW = "Unwind"
SWEEP_WORKFLOW = "Sweep"
UNDO_ATTEMPTS = 20
"""Of one undo: with pauses that grow to minutes, more than an hour of a service's absence."""
MAX_STEP_BYTES = 16 * 1024
"""Of a step's arguments, and of its result: they stay in history."""


def unwind_id(saga_id: str) -> str:
    """Workflow id of the one `Unwind` of a saga. Temporal lets one run of it live at a time."""
    session, _, request = saga_id.partition("/request-")
    return f"{session}/unwind/{request or 'saga'}"


class SagaInput(Wire):
    """Input of `SagaRun`. Its workflow id is the saga's id, and names its chain in the ledger."""

    name: str
    version: str | None = None
    """None: the newest this worker has."""
    args: Mapping[str, Any] = Field(default_factory=dict)
    principal: Principal = Principal()
    parent: str | None = None
    """The session that started it."""
    trace: Mapping[str, str] = Field(default_factory=dict)


class SagaResult(Wire):
    """How a code-defined saga ended."""

    outcome: SagaState
    result: Any = None
    reason: str = ""
    undone: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()
    """Steps by name: compensated, and still standing."""


class OpenSaga(Wire):
    saga_id: str
    run_id: str
    name: str
    version: str
    source: str
    """Digest of the body's source: the same version with another source is refused while runs are open."""
    tools: tuple[str, ...]
    """References (`module:attribute` or book names) of every tool the body may use."""
    principal: Principal
    parent: str | None = None
    args: Mapping[str, Any] = Field(default_factory=dict)
    started_at: datetime
    trace: Mapping[str, str] = Field(default_factory=dict)


class SagaPlan(Wire):
    """What a code-defined saga runs with. `refused` says why it cannot open."""

    saga: SagaRef | None = None
    catalogue: str = ""
    salt: str = ""
    """Hex; salts the digests of this saga's arguments."""
    tools: tuple[ToolPlan, ...] = ()
    lease: timedelta = LEASE
    search_attributes: bool = False
    queues: Queues = Queues()
    refused: str | None = None
    version: str = ""
    """The version it was opened with, where an earlier run opened it: a saga goes on with that one."""
    args: Mapping[str, Any] | None = None
    """The arguments it was opened with; they win over those of a later run."""
    state: SagaState = SagaState.OPEN
    """Where it stands: an earlier run may have moved it on."""
    past_pivot: bool = False
    reason: str = ""
    result: Any = None
    """Of its end, if it has ended."""

    def tool(self, name: str) -> ToolPlan | None:
        return next((plan for plan in self.tools if plan.name == name), None)


class ExecuteStep(Wire):
    """One step of a code-defined saga. Its effect is named by saga, step and nothing else, so it happens once."""

    saga: SagaRef
    step: str
    """Unique in the saga; stands where a session's call has its number."""
    tool: str
    args: Mapping[str, Any]
    catalogue: str
    salt: str
    attempts: int
    authorization: Authorization
    pivot: bool = False
    """Once it is DONE the saga is past its pivot."""
    timeout: timedelta | None = None
    """Of one attempt, where the saga wants another than the tool's own."""
    outbox: tuple[Fact, ...] = ()
    trace: Mapping[str, str] = Field(default_factory=dict)


class StepOutcome(Wire):
    """A settled step. `result` is the tool's result as JSON, at most `MAX_STEP_BYTES`."""

    status: CallStatus
    result: Any = None
    code: str | None = None
    text: str | None = None
    usd: Decimal | None = Decimal(0)
    held: str | None = None


class EndSaga(Wire):
    """A code-defined saga ends, or moves on: COMMITTING (its body returned, deferred steps are left), COMMITTED,
    FORWARD_PENDING (past its pivot, and a step failed), HELD."""

    saga: SagaRef
    state: SagaState
    reason: str = ""
    at: datetime
    result: Any = None
    outbox: tuple[Fact, ...] = ()


class BeginUnwind(Wire):
    """First transaction of an unwind, and each later look at the plan (`epoch` given: only look)."""

    session_id: str
    """Whose chain: the session, or the code-defined saga itself."""
    saga_id: str
    unwinder: str
    """Run id of the Unwind workflow; the newest to begin holds the saga."""
    epoch: int | None = None
    reason: str = ""
    by: str = ""


class StepPlan(Wire):
    """One effect of the saga above tier read, as the planner needs it."""

    effect_id: str
    call: str
    tool: str
    tier: Tier
    recovery: RecoveryClass
    state: EffectState
    doubt: bool = False
    """OPEN, and an attempt may have landed."""
    lease_left: timedelta | None = None
    """CLAIMED: how long its attempt is taken for alive; zero or less means the lease is over."""
    order: int | None = None
    """Of completion; an unwind goes from the highest down."""
    undo: str | None = None
    undo_version: str | None = None
    undo_timeout: timedelta = timedelta(minutes=2)
    """Of one attempt of the undo, or of asking again what became of the step."""
    undo_missing: bool = False
    """The undo is declared and its arguments could not be made: a person must give them."""
    undo_if_unknown: str | None = None
    """Tool that undoes it if it happened, by the effect's key."""
    never_undone: str | None = None
    can_settle: bool = False
    """Asking its probe, or sending again under the same key, can still tell what happened."""
    settle_tried: int = 0
    undo_state: EffectState | None = None
    undo_said: str = ""
    """Of an undo that failed: why."""
    waived: bool = False
    """A person said that it may stand, or that it is undone by hand."""


class UnwindPlan(Wire):
    """The saga after the first transaction. `refused`: why it may not be unwound, e.g. past its pivot."""

    epoch: int = 0
    state: SagaState = SagaState.UNWINDING
    catalogue: str = ""
    steps: tuple[StepPlan, ...] = ()
    refused: str | None = None
    refused_code: Literal["committed", "aborted", "pivot", "taken", "missing"] | None = None
    lease: timedelta = LEASE
    search_attributes: bool = False
    queues: Queues = Queues()


class Compensate(Wire):
    """Run one compensation. Its arguments are in the effect's row."""

    session_id: str
    saga: SagaRef
    undo_of: str
    """Effect id of the step; the compensation's own is this with `:undo` behind it."""
    call: str
    tool: str
    version: str
    unknown: bool = False
    """It is the `undo_if_unknown` of a step whose outcome nobody knows."""
    catalogue: str
    by: str = ""
    trace: Mapping[str, str] = Field(default_factory=dict)


class SettleEffect(Wire):
    """Find out what became of a step in doubt: by its probe, or by sending again under its own key."""

    session_id: str
    saga: SagaRef
    effect_id: str
    call: str
    tool: str
    catalogue: str


class EndUnwind(Wire):
    """ABORTED, HELD or STUCK, by the unwinder that holds the saga in `epoch`."""

    session_id: str
    saga_id: str
    epoch: int
    state: SagaState
    reason: str = ""


class UnwindInput(Wire):
    session_id: str
    saga_id: str
    reason: str = ""
    by: str = ""
    trace: Mapping[str, str] = Field(default_factory=dict)


class UnwindResult(Wire):
    """`undone` and `standing` name steps as `3.1 hold_seat`."""

    outcome: SagaState
    reason: str = ""
    undone: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()


class FindOrphans(Wire):
    """A page of the sagas that neither ended nor wait for a person, oldest first, after a cursor."""

    task_queue: str
    """Whose forward sides: of another queue's, another sweeper has the code."""
    after: str | None = None
    limit: int = 200
    older_than: timedelta = timedelta(seconds=5)
    """Quiet for so long: whoever works on it has had time to be seen."""


class Orphan(Wire):
    """A saga whose forward side, or unwinder, does not run any more. `what` is to be done about it."""

    saga_id: str
    session_id: str
    what: Literal["unwind", "restart", "hold"]
    state: SagaState
    reason: str
    restart: SagaInput | None = None


class OrphanPage(Wire):
    """`alarm`: why nothing was looked at."""

    scanned: int = 0
    alarm: str = ""
    orphans: tuple[Orphan, ...] = ()
    next: str | None = None


class EndDeadSessions(Wire):
    """A page of the sessions that have not ended by the ledger, oldest first, after a cursor."""

    task_queue: str
    """Whose sessions."""
    after: str | None = None
    limit: int = 200


class DeadSessions(Wire):
    """`next`: where to go on; None after the last page."""

    ended: tuple[str, ...] = ()
    next: str | None = None


class SweepInput(Wire):
    task_queue: str = ""
    """Empty: the sweeper's own."""
    sessions_at_once: int = 200
    """So many living sessions are looked at, those after the last sweep's: each is a question to Temporal."""
    every_session: bool = False
    """A person waits for it: look at all of them."""
    at_most: int = 5
    at_most_share: float = 0.01
    """More orphans than both allow stop the sweep: that many at once is a wrong namespace before it is a loss."""
    force: bool = False
    """A person looked, and lets it go on."""
    older_than: timedelta = timedelta(seconds=5)


class SweepResult(Wire):
    scanned: int = 0
    started: tuple[str, ...] = ()
    """Sagas unwound or gone on with."""
    held: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    """Sessions that died without a word, and have an end in the ledger now."""
    next_session: str | None = None
    """Where the next sweep goes on looking at sessions."""
    alarm: str = ""


class HoldSaga(Wire):
    """Leave a saga to a person, with the reason; nothing of it is undone."""

    saga_id: str
    session_id: str
    expected: SagaState
    reason: str


@activity.defn
async def open_saga(request: OpenSaga) -> SagaPlan:
    """Resolve the saga's tools into a stored catalogue; write its row and first entry.

    Opened again it tells where it stands. Of one that is COMMITTING or FORWARD_PENDING the steps that failed after
    its pivot are opened again, each under a new key: there a saga can only try further. One that failed before the
    pivot stays failed, or the body would go another way than the first time.
    """
    raise NotImplementedError


@activity.defn
async def execute_step(request: ExecuteStep) -> StepOutcome:
    """Run one step through the effect protocol."""
    raise NotImplementedError


@activity.defn
async def end_saga(request: EndSaga) -> SagaState:
    """Write the saga's end; returns the state that stands."""
    raise NotImplementedError


@activity.defn
async def begin_unwind(request: BeginUnwind) -> UnwindPlan:
    """Fence the forward side off, tombstone what was not dispatched, and read the plan."""
    raise NotImplementedError


@activity.defn
async def compensate(request: Compensate) -> StepOutcome:
    """Run one compensation through the effect protocol. ERROR: it failed for good; UNKNOWN: nobody knows."""
    raise NotImplementedError


@activity.defn
async def settle_effect(request: SettleEffect) -> EffectState:
    """Find out what became of an effect in doubt; returns where it stands now."""
    raise NotImplementedError


@activity.defn
async def end_unwind(request: EndUnwind) -> SagaState:
    """Write how the unwind ended; returns the state that stands."""
    raise NotImplementedError


@activity.defn
async def find_orphans(request: FindOrphans) -> OrphanPage:
    """Ask Temporal, by workflow id, what became of whoever works on each unfinished saga."""
    raise NotImplementedError


@activity.defn
async def end_dead_sessions(request: EndDeadSessions) -> DeadSessions:
    """Ask Temporal what became of sessions that have not ended, and end those whose workflow is dead."""
    raise NotImplementedError


@activity.defn
async def hold_saga(request: HoldSaga) -> bool:
    """Leave a saga to a person; False where it has moved on meanwhile."""
    raise NotImplementedError
