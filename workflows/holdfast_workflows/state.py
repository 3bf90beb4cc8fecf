"""What a session is, as data: everything continue-as-new carries, and nothing that grows with its turns.

Mutable on purpose: the workflow's single thread owns it, and a snapshot of it is the next run's input.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from holdfast import ids
from holdfast.budget import Spend, TighterLimits
from holdfast.contracts import Authorization, Call, CallRef, Results, SagaRef, SessionPlan, UserMessage
from holdfast.facts import Fact
from holdfast.messages import Command, Decide, Principal, Receipt, Resolve, Send
from holdfast.states import CallStatus, SessionStatus, Tier

MAX_RECEIPTS = 200
MAX_QUEUE = 100
MAX_EARLY = 50


class _State(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Ask(_State):
    """A person is being asked: about a call (`approval`), or by the model (`question`)."""

    asked_at: datetime
    expires_at: datetime | None = None
    question: bool = False


class OpenCall(_State):
    """One call of the open turn, from its decision to its settled outcome."""

    number: str
    call: Call
    tier: Tier | None = None
    rule: str = ""
    authorization: Authorization | None = None
    ask: Ask | None = None
    wake_at: datetime | None = None
    """`wait_until`: the moment this call is over."""
    aborts: str | None = None
    """`abort_request`: why. It waits until the other calls of its turn are settled."""
    unknown: str | None = None
    """Why its outcome is unknown; it waits for a person or a probe."""
    lost: int = 0
    """How often its activity was failed from outside: what became of it only its row knows."""
    settled: CallRef | None = None

    def settle(self, status: CallStatus, text: str | None = None, digest: str = "") -> None:
        self.settled = CallRef(tool_use_id=self.call.tool_use_id, status=status, text=text, digest=digest)
        self.ask = None
        self.unknown = None
        self.wake_at = None


class Compensation(_State):
    """A step of the open request that can be undone, named for the UI; its arguments are in Postgres."""

    call: str
    undo: str


class OpenTurn(_State):
    number: int
    head: str
    """The head the turn was made on; its calls' effect ids contain it."""
    calls: list[OpenCall]

    def call(self, number: str) -> OpenCall:
        return next(call for call in self.calls if call.number == number)

    def results(self) -> Results:
        """The user message that answers every tool_use of the turn."""
        return Results(
            turn=self.number, turn_head=self.head, calls=tuple(c.settled for c in self.calls if c.settled)
        )


class OpenRequest(_State):
    """What one user message asks for, while it is worked on."""

    number: int
    saga: SagaRef
    trace: dict[str, str] = {}
    turn: OpenTurn | None = None
    final: str | None = None
    """Why the next model turn is the last, tool-free one."""
    final_done: bool = False
    held: str | None = None
    """Why the request cannot go on: Postgres does not have what it stands on."""
    cut_at_window: bool = False
    """An answer was cut where the model's context window ends, and it was asked to go on."""
    may_stand: bool = False
    """A call with effects was started in this saga, so something of it may stand."""
    apart: list[str] = []
    """Calls that were sagas of their own and stand, e.g. `2.1 travel_rebook`: not this request's to undo."""


class SessionState(_State):
    principal: Principal
    agent: str
    limits: TighterLimits = TighterLimits()
    close_when_idle: bool = False
    started_at: datetime
    plan: SessionPlan | None = None
    head: str
    turn: int = 0
    requests: int = 0
    spend: Spend = Spend()
    queue: list[Send] = []
    incoming: list[UserMessage | Results] = []
    """What the next model turn appends to the transcript."""
    context: int = 0
    """Tokens of the last turn, input and output, where the agent's memory has use for them."""
    summed_up: int | None = None
    """Tokens of the first turn after the last summary, 0 before there is one; None: there is no summary."""
    request: OpenRequest | None = None
    compensations: list[Compensation] = []
    early: list[Decide] = []
    """Decisions that came before their ask."""
    outbox: list[Fact] = []
    receipts: dict[str, Receipt] = {}
    interrupt: Command | None = None
    abort: Command | None = None
    close: Command | None = None
    resolved: list[Resolve] = []
    foretold: list[Resolve] = []
    """What people found out about calls whose doubt this session has not heard of yet: the ledger had."""
    trace: dict[str, str] = {}
    """W3C trace context of the last message."""
    run: str = ""
    """Head of the run's id. It is in the keys of facts that a reset may tell otherwise."""
    changes: int = 0
    """Counts status changes told to the ledger."""
    status: SessionStatus = SessionStatus.RUNNING
    reason: str = ""
    """Why the session is where it is, or ended as it did."""
    last_outcome: SessionStatus = SessionStatus.COMPLETED
    """How the last request ended: completed, failed or aborted."""
    refused: str = ""
    """The last signal that was refused, for the details."""
    answer: str | None = None
    """Digest of the last assistant message."""
    spoken: str = ""
    """Head of the last thing the model said, for the details."""

    @property
    def asks(self) -> list[OpenCall]:
        turn = self.request.turn if self.request else None
        return [call for call in turn.calls if call.ask] if turn else []

    def call(self, number: str) -> OpenCall | None:
        turn = self.request.turn if self.request else None
        return next((call for call in turn.calls if call.number == number), None) if turn else None

    def receipt(self, receipt: Receipt) -> Receipt:
        """Remember an answer, so that the same id is answered the same after continue-as-new."""
        self.receipts[receipt.id] = receipt
        while len(self.receipts) > MAX_RECEIPTS:
            del self.receipts[next(iter(self.receipts))]
        return receipt


def message_digest(text: str) -> str:
    """Digest of an inline message, the same the client would have got by storing it."""
    return ids.digest(ids.canonical(text))
