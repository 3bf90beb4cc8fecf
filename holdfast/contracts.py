"""Activity contracts: typed stubs, their inputs and results, and the options every call of them carries.

Workflows call these stubs, activities implement them; neither imports the other. Results are small, since they
stay in history: bodies are rows in Postgres, named by digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from pydantic import Field
from temporalio import activity
from temporalio.common import RetryPolicy

from holdfast import guards, ids
from holdfast.budget import Limits, Lost, TighterLimits, Usage
from holdfast.catalogue import ToolPlan
from holdfast.facts import Fact
from holdfast.messages import UNAUTHENTICATED, Principal
from holdfast.policy import Policy
from holdfast.queues import Queues
from holdfast.states import CallStatus, Tier
from holdfast.wire import Wire

LEASE = guards.LEASE
"""An attempt's lease, and its heartbeat timeout: a dead worker is noticed this fast whatever the tool's timeout."""
SHORTEST_HEARTBEAT = timedelta(seconds=3)
"""Heartbeat timeout of a shorter lease: a beat takes its time on a busy machine."""
MODEL_TIMEOUT = timedelta(minutes=10)
RECORD_MARGIN = timedelta(seconds=30)
"""Start-to-close beyond the tool's own timeout, to claim and to record."""

INLINE_MARGIN = timedelta(seconds=5)
"""The same for a call inside the workflow task; after that it is an activity like any other."""
ONCE = RetryPolicy(maximum_attempts=1)

SETTLE = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=15),
    maximum_attempts=0,  # an effect ends by returning its outcome; Temporal never ends it
)


class SagaRef(Wire):
    """The saga an effect belongs to, and the epoch its claim is fenced by."""

    id: str
    epoch: int = 1
    request: int = 1


class OpenSession(Wire):
    session_id: str
    run_id: str
    agent: str
    principal: Principal
    limits: TighterLimits = TighterLimits()
    started_at: datetime
    outbox: tuple[Fact, ...] = ()


class SessionPlan(Wire):
    """What the workflow decides with. `refused` says why the session cannot open."""

    catalogue: str = ""
    model: str = ""
    limits: Limits = Limits()
    policy: Policy = Policy()
    policy_version: int = 1
    tools: tuple[ToolPlan, ...] = ()
    on_max_tokens: Literal["continue", "stop"] = "continue"
    on_refusal: Literal["stop", "fail"] = "stop"
    summarise_above: int | None = None
    """Tokens of a turn, input and output, above which a summary replaces what was said; None: never."""
    summary_model: str = ""
    lease: timedelta = LEASE
    """`[effects] lease` of the worker that opened it."""
    search_attributes: bool = False
    """Whether this Temporal knows Holdfast's search attributes; without them a session shows itself in details."""
    queues: Queues = Queues()
    refused: str | None = None

    def tool(self, name: str) -> ToolPlan | None:
        return next((plan for plan in self.tools if plan.name == name), None)


class UserMessage(Wire):
    """A user message to append before the turn; `text` only where it came inline."""

    kind: Literal["user"] = "user"
    id: str
    digest: str
    text: str | None = None
    by: str = UNAUTHENTICATED


class CallRef(Wire):
    """A settled call of the turn before. `text` is what the model is told where no row holds a result."""

    tool_use_id: str
    status: CallStatus
    digest: str = ""
    text: str | None = None


class Results(Wire):
    """The tool results of turn `turn`, in tool_use order, as one user message."""

    kind: Literal["results"] = "results"
    turn: int
    turn_head: str
    """Head the calls' effect ids were made with."""
    calls: tuple[CallRef, ...]

    @property
    def digest(self) -> str:
        return ids.results_digest([(c.tool_use_id, c.status, c.digest or c.text or "") for c in self.calls])


class ModelTurn(Wire):
    """One model call. `head` is the digest over all messages including `incoming`; `parent` the one before."""

    session_id: str
    turn: int
    parent: str
    head: str
    incoming: tuple[UserMessage | Results, ...] = ()
    catalogue: str
    saga: SagaRef
    final: str | None = None
    """Why this is the last, tool-free turn; None for an ordinary one."""
    summary: bool = False
    """The last message asks for a summary of the conversation: tool-free, by a cheaper model where there is one."""
    outbox: tuple[Fact, ...] = ()
    trace: Mapping[str, str] = Field(default_factory=dict)


class Call(Wire):
    """One tool_use block of a recorded turn."""

    tool_use_id: str
    tool: str
    digest: str = ""
    """Salted digest of the arguments."""
    preview: str = ""
    """Redacted arguments for a person, at most 300 characters."""
    facts: Mapping[str, Any] = Field(default_factory=dict)
    invalid: str | None = None
    """Why it cannot run: unknown tool or arguments that do not fit; goes back to the model."""
    args: Mapping[str, Any] | None = None
    """Of a code-defined saga alone, whose input they are: at most `saga_contracts.MAX_STEP_BYTES`."""


class TurnResult(Wire):
    """What came back. `failed` is a permanent failure, in words for the user."""

    stop_reason: str | None = None
    message: str = ""
    """Digest of the assistant message."""
    calls: tuple[Call, ...] = ()
    usage: Usage = Usage()
    usd: Decimal | None = Decimal(0)
    text: str = ""
    """Head of what the model said, at most 200 characters, for the details shown in the UI."""
    interrupted: bool = False
    failed: str | None = None
    held: str | None = None
    """Why the session must hold: Postgres does not have what this session stands on."""
    committed: bool = False
    """The request's saga was committed in the turn's own transaction."""
    lost: Lost | None = None
    """Attempts at it whose answers were lost: budgets count them as billed."""


class Authorization(Wire):
    """Why a call may run: the rule, and the person if one was asked."""

    verdict: str
    rule: str
    policy_version: int | None = None
    """Of the policy code that decided; None where no policy did."""
    approver: str | None = None
    authenticated: bool = False
    decision: str | None = None
    """Id of the person's decision; consumed by exactly one effect."""
    decided_at: datetime | None = None
    use_within: timedelta | None = None


class ExecuteCall(Wire):
    session_id: str
    turn: int
    head: str
    call: str
    tool_use_id: str
    tool: str
    digest: str
    catalogue: str
    saga: SagaRef
    tier: Tier | None = None
    """The tier of these arguments (`tier` of the call's facts), where it is not the declared one."""
    authorization: Authorization
    attempts: int
    outbox: tuple[Fact, ...] = ()
    trace: Mapping[str, str] = Field(default_factory=dict)


REPEAT = "repeat"
"""Code of a call that its semantic key stopped, and the rule under which a person allows it all the same."""
REOPENED = "reopened"
"""Code of a probe's outcome: the call may be run again."""


class CallOutcome(Wire):
    """A settled call. The result itself is a row; `text` is set where there is none."""

    status: CallStatus
    digest: str = ""
    size: int = 0
    code: str | None = None
    text: str | None = None
    usd: Decimal | None = Decimal(0)
    held: str | None = None


class FlushFacts(Wire):
    session_id: str
    outbox: tuple[Fact, ...]


class CloseSession(Wire):
    session_id: str
    status: str
    reason: str = ""
    at: datetime
    saga: SagaRef | None = None
    """A saga still open, to be left HELD or closed with the session."""
    outbox: tuple[Fact, ...] = ()


@activity.defn
async def open_session(request: OpenSession) -> SessionPlan:
    """Resolve agent, tools and policy into a stored catalogue; write the session row and its first entry."""
    raise NotImplementedError


@activity.defn
async def model_turn(request: ModelTurn) -> TurnResult:
    """Call the model once and record what came back in one transaction."""
    raise NotImplementedError


@activity.defn
async def execute_call(request: ExecuteCall) -> CallOutcome:
    """Run one authorised call through the effect protocol."""
    raise NotImplementedError


@activity.defn
async def probe_call(request: ExecuteCall) -> CallOutcome:
    """Ask the probe of a call whose outcome is UNKNOWN, with growing pauses, until it tells or a person does."""
    raise NotImplementedError


@activity.defn
async def flush_facts(request: FlushFacts) -> str | None:
    """Append facts before the session waits, so that people who look know who was asked. Local.

    Returns why the session must hold, where Postgres does not know it; None once the facts are told.
    """
    raise NotImplementedError


@activity.defn
async def close_session(request: CloseSession) -> None:
    """Write the last entry and the session's final status."""
    raise NotImplementedError
