"""What goes into the ledger's functions and what comes out: plain frozen records, no SQL and no Temporal.

Bodies are bytes (canonical JSON, see `holdfast.ids.canonical`); everything else stands in clear columns.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from holdfast.budget import Lost, Usage
from holdfast.facts import Fact
from holdfast.guards import Breaker
from holdfast.states import EffectState, RecoveryClass, Tier
from holdfast_ledger.saga_records import PlannedRow

EffectKind = Literal["model", "call", "undo"]


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A client's announcement of a session before it starts the workflow: what makes `start --id` idempotent."""

    session_id: str
    agent: str
    start_digest: str
    """Digest of everything the start means; the same id with another digest is a reused id."""
    requested_by: str
    on_behalf_of: str | None = None
    tenant: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Registered:
    """`fresh`: this call made the row. Otherwise the row was there, with this status and workflow."""

    fresh: bool
    status: str
    first_run_id: str | None


@dataclass(frozen=True, kw_only=True)
class Opening:
    """The session as its workflow opens it."""

    session_id: str
    first_run_id: str
    agent: str
    model: str
    catalogue_digest: str
    catalogue: bytes
    requested_by: str
    on_behalf_of: str | None
    tenant: str | None
    roles: tuple[str, ...]
    labels: Mapping[str, str]
    started_at: datetime
    task_queue: str = ""
    """Whose workers have its code."""
    outbox: tuple[Fact, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """A message to append to the transcript. `body` is None where the client stored it before, by digest.

    A `results` message has the body of references `[{tool_use_id, status, effect_id?, text?}]`; the results
    themselves are the effects' rows.
    """

    head: str
    parent: str
    role: Literal["user", "results"]
    digest: str
    turn: int
    message_id: str | None = None
    body: bytes | None = None
    effects: tuple[str, ...] = ()
    """Those it tells the results of, so that each must be recorded as done."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One attempt asks for an effect.

    A `model` claim appends `incoming`, opens its saga when missing, and needs `parent` in the transcript.
    A `call` claim needs the effect's row (made by `record_turn`) with the same `fingerprint`.
    """

    effect_id: str
    session_id: str
    kind: EffectKind
    turn: int
    call: str | None = None
    tool: str | None = None
    tier: Tier | None = None
    service: str | None = None
    """Whose circuit breaker stops it, besides the tool's own; of a model claim `model_service` of the model."""
    recovery: RecoveryClass
    key_ttl: timedelta | None = None
    fingerprint: str
    """Digest of what is about to be done; for a call its salted argument digest."""
    saga_id: str
    saga_epoch: int
    request: int
    attempts: int
    """Attempt budget of the effect; 0 means unlimited."""
    lease: timedelta
    worker: str
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    """Of this attempt: the same claim again, after its answer was lost, is the same grant."""
    parent: str | None = None
    incoming: tuple[Incoming, ...] = ()
    authorization: Mapping[str, Any] | None = None
    """`holdfast.contracts.Authorization` as JSON; stands in the intent entry."""
    decision: str | None = None
    """Id of the person's decision to consume."""
    use_within: timedelta | None = None
    repeat_within: timedelta | None = None
    """For an effect with a semantic key: how long another one that stands forbids this one."""
    repeat_allowed: bool = False
    """A person allowed the repetition."""
    planned: PlannedRow | None = None
    """Its row, made where it is missing: of a code-defined saga's step, and of an undo."""
    settle_tries: int | None = None
    """During an unwind: find out what became of a step in doubt, in so many tries at the most. 0: give it up."""
    outbox: tuple[Fact, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Granted:
    """Dispatch now, within a second. `token` fences the attempt; `args` are a call's arguments.

    `probe`: an earlier attempt may have landed and the class is Probe: ask the service first.
    """

    token: int
    attempt: int
    args: bytes | None = None
    probe: bool = False
    keys_refused: int = 0
    """So many keys of the effect its service refuses for good; see `holdfast.ids.idempotency_key`."""


@dataclass(frozen=True, kw_only=True)
class Settled:
    """The effect already has its outcome; nothing may run."""

    state: EffectState
    outcome: Mapping[str, Any]
    """As given to `Record.outcome` / `TurnRecord.outcome`, or the ledger's own (status, code, text) where it gave
    the effect up. A turn that committed its saga has `committed` true."""


@dataclass(frozen=True, kw_only=True)
class Busy:
    """Another attempt's lease is alive; ask again after `retry_after`."""

    retry_after: timedelta


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The claim was refused and nothing was claimed.

    `code`: `disabled` (kill switch), `breaker` (with `retry_after`), `repeat` (semantic key), `saga_closed`,
    `unwinding` (in doubt, and its unwinder finds out), `not_settled` (not to be undone now), `epoch`,
    `conflict`, `head_missing`, `effect_missing`, `not_approved`, `approval_used`, `approval_expired`.
    """

    code: str
    reason: str
    retry_after: timedelta | None = None


def model_service(model: str) -> str:
    """What a model is called among the services that are left alone for a while."""
    return f"model:{model}"


ClaimResult = Granted | Settled | Busy | Refused


@dataclass(frozen=True, kw_only=True)
class Undo:
    """The registered compensation of a step: data, never a closure."""

    tool: str
    version: str
    args: bytes


@dataclass(frozen=True, kw_only=True)
class Record:
    """The end of one attempt. State OPEN is a clean transient failure: the claim is released."""

    effect_id: str
    session_id: str
    token: int
    state: EffectState
    doubt: bool = False
    """With OPEN: the attempt reports that it may have landed, as if its lease had run out; sticks to the effect."""
    final: bool = False
    """With FAILED: that holds for earlier attempts too. Otherwise an effect in doubt ends UNKNOWN."""
    outcome: Mapping[str, Any]
    """Small: status, code, text, digest, size. What a later attempt returns from the row."""
    result: bytes | None = None
    """The whole result."""
    shown: bytes | None = None
    """What the model sees, where it differs from `result` (capped or marked)."""
    latency: timedelta | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """What is known of the attempt: error type, HTTP status, service's request id. Never argument values."""
    undo: Undo | None = None
    usd: Decimal | None = Decimal(0)
    """None: it cost something, and nobody knows how much."""
    lost: Lost | None = None
    """Of a model turn that ends without an answer: what is assumed of the attempts at it."""
    dispatched: bool = True
    """False, with state OPEN: released before anything was sent; the attempt does not count."""
    failed: bool | None = None
    """For the circuit breaker: whether the service failed this attempt. None: it says nothing about the service."""
    breaker: Breaker | None = None
    service: str | None = None
    """Whose breaker counts it; the tool's own where there is none."""
    leave_alone: timedelta | None = None
    """Its provider asks for patience: no worker is to ask the `service` for so long."""


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What a person or a probe found out about an UNKNOWN effect. `id` makes telling it twice one entry.

    State DONE or FAILED; or OPEN, to let it be tried once more, whatever became of the attempts before.
    """

    id: str
    effect_id: str
    session_id: str
    state: EffectState
    by: str
    reason: str
    outcome: Mapping[str, Any]
    """What the model is told from now on: status, code, text."""
    result: bytes | None = None
    shown: bytes | None = None
    undo: Undo | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    key_refused: bool = False
    """With OPEN: the service refuses the effect's key from now on, so it is sent with another."""


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """An effect as a probe needs it. `args` are the call's arguments."""

    state: EffectState
    outcome: Mapping[str, Any]
    args: bytes | None
    keys_refused: int = 0


@dataclass(frozen=True, kw_only=True)
class Switched:
    """One tool's switch. `changed` False: it stood so before, by whom and why the other fields say."""

    changed: bool
    reason: str | None
    by: str | None
    at: datetime | None


@dataclass(frozen=True, kw_only=True)
class PlannedCall:
    """A valid tool_use block: becomes the call's effect row, OPEN, with its arguments."""

    effect_id: str
    call: str
    tool_use_id: str
    tool: str
    tool_version: str
    tier: Tier
    recovery: RecoveryClass
    args: bytes
    salt: bytes
    digest: str
    preview: str
    semantic_key: str | None = None
    """Two calls with the same one are the same to the outside; see `holdfast.ids.semantic_key`."""


@dataclass(frozen=True, kw_only=True)
class TurnRecord:
    """A model turn, committed as one transaction: message, usage, cost, planned calls, ledger, saga."""

    effect_id: str
    session_id: str
    token: int
    turn: int
    head: str
    """The head before the assistant message."""
    next_head: str
    digest: str
    body: bytes
    """The assistant message's content blocks, canonical JSON."""
    outcome: Mapping[str, Any]
    """`holdfast.contracts.TurnResult` as JSON."""
    stop_reason: str | None
    model_asked: str
    model_answered: str | None
    usage: Usage
    usd: Decimal | None
    latency: timedelta
    request_digest: str
    final: str | None = None
    """Why it was the last, tool-free turn of its request; the model was told."""
    summary: bool = False
    """It sums up the conversation."""
    counted: int | None = None
    """Tokens of its request before the agent's memory made it shorter. None: it was sent as it was."""
    calls: tuple[PlannedCall, ...] = ()
    lost: Lost | None = None
    """What is assumed of earlier attempts at it whose answers were lost."""
    saga_id: str
    saga_epoch: int
    commit_saga: bool = False
    """Commit when no effect of the saga is open, claimed or unknown."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """`accepted` False: a newer attempt holds the effect and this record changed nothing."""

    accepted: bool
    committed: bool = False
    outcome: Mapping[str, Any] | None = None
    """The outcome that stands, where the effect is settled: this one, another attempt's, or the ledger's own."""
    state: EffectState | None = None
    """Where the effect stands now. A record of OPEN that used up the attempt budget finds FAILED or UNKNOWN."""


@dataclass(frozen=True, kw_only=True)
class StoredMessage:
    """One message of the transcript, oldest first."""

    head: str
    role: Literal["user", "assistant", "results"]
    turn: int
    content: Any
    """User: text or blocks. Assistant: blocks. Results: `[{tool_use_id, status, text}]`, results filled in."""
    message_id: str | None = None
    """Of a user's message."""
    context: int | None = None
    """Of an answer: tokens of its turn, input and output, as the API counted them. None where it did not."""
    counted: int | None = None
    """Of an answer: see `TurnRecord`."""
    stop_reason: str | None = None
    """Of an answer."""


@dataclass(frozen=True, kw_only=True)
class LivingSessions:
    """A page of ids. `next` is the cursor of the one after it."""

    sessions: tuple[str, ...] = ()
    next: str | None = None


@dataclass(frozen=True, kw_only=True)
class Closing:
    session_id: str
    status: str
    reason: str
    at: datetime
    saga_id: str | None = None
    outbox: tuple[Fact, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A piece of a streaming turn for watchers; unlogged, gone after the turn is recorded."""

    session_id: str
    turn: int
    token: int
    """The attempt; a higher token resets the view."""
    seq: int
    kind: Literal["text", "thinking", "tool_use"]
    text: str
