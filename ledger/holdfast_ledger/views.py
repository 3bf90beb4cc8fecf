"""What readers of the ledger get: frozen models that dump to JSON as they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict

from holdfast import ids
from holdfast.states import EffectState, RecoveryClass, SagaState, SessionStatus, Tier
from holdfast_ledger.sealing import notice


class View(BaseModel):
    """Every field is always written: scripts read these."""

    model_config = ConfigDict(frozen=True)


class Tokens(View):
    input: int
    output: int
    cache_read: int
    cache_write: int

    @property
    def total(self) -> int:
        return self.asked + self.output

    @property
    def asked(self) -> int:
        """All that the model read, from the cache or not."""
        return self.input + self.cache_read + self.cache_write

    @property
    def cache_hit_rate(self) -> float | None:
        """The part of what the model read that came from the provider's cache; None where it read nothing."""
        return round(self.cache_read / self.asked, 4) if self.asked else None


class Session(View):
    """One session as it stands. `first_run_id` is None until its workflow opened it; `usd` where unknown."""

    id: str
    agent: str
    model: str | None
    status: SessionStatus
    status_reason: str | None
    status_at: datetime
    requested_by: str
    on_behalf_of: str | None
    roles: tuple[str, ...]
    tenant: str | None
    labels: Mapping[str, str]
    registered_at: datetime
    opened_at: datetime | None
    ended_at: datetime | None
    first_run_id: str | None
    catalogue_digest: str | None
    turns: int
    calls: int
    usage: Tokens
    usd: Decimal | None
    lost_attempts: int
    """Attempts at turns that were billed perhaps; what budgets assume for them is in neither `usage` nor `usd`."""
    assumed_tokens: int
    assumed_usd: Decimal | None


class Entry(View):
    """One entry of the record.

    `body` is None where this process cannot open it, and `{"erased": ...}` where nobody can.
    """

    seq: int
    kind: str
    at: datetime
    recorded_at: datetime
    turn: int | None
    call: str | None
    effect_id: str | None
    token: int | None
    saga_id: str | None
    tool: str | None
    tier: str | None
    outcome: str | None
    actor: str | None
    args_digest: str | None
    latency: timedelta | None
    body: Any
    hash: str


class Erasure(View):
    """A session's contents are gone for everybody."""

    at: datetime
    by: str
    reason: str

    @property
    def notice(self) -> str:
        return notice(self.at, self.by)


class Archive(View):
    """A session's record is in a file."""

    file: str
    """Its name, without its directory."""
    at: datetime
    by: str

    @property
    def notice(self) -> str:
        return f"in the archive `{self.file}` since {self.at:%Y-%m-%d %H:%M} UTC, by {self.by}"


class Approval(View):
    """What a person was, or is, asked: one call with these very arguments."""

    session_id: str
    agent: str
    call: str
    digest: str
    effect_id: str | None
    tool_use_id: str | None
    tool: str | None
    tier: Tier | None
    preview: str | None
    asked_at: datetime
    expires_at: datetime | None
    state: str
    """`pending`, `approved`, `denied`, `expired` or `consumed`."""
    decision: str | None
    decided_at: datetime | None
    decided_by: str | None
    authenticated: bool | None
    reason: str | None
    consumed_by: str | None


class Effect(View):
    """One effect as it stands. `outcome` is what its last reporting attempt said, final once settled.

    `state` is UNKNOWN also where a request ended over an attempt that never reported.
    """

    effect_id: str
    session_id: str
    kind: str
    turn: int
    call: str | None
    tool_use_id: str | None
    tool: str | None
    tool_version: str | None
    tier: Tier | None
    recovery: RecoveryClass
    preview: str | None
    fingerprint: str
    saga_id: str
    state: EffectState
    keys_refused: int
    token: int
    attempts_used: int
    attempts_budget: int
    doubt: bool
    worker: str | None
    lease_until: datetime | None
    planned_at: datetime
    first_claimed_at: datetime | None
    settled_at: datetime | None
    outcome: Mapping[str, Any] | None
    result_bytes: int | None
    undo_tool: str | None
    probes: int
    """How often its service was asked while the outcome was unknown, and what it said last."""
    probed_at: datetime | None
    probe_said: str | None
    latency: timedelta | None
    usd: Decimal | None

    @property
    def idempotency_key(self) -> str:
        """What its service sees."""
        return ids.idempotency_key(self.effect_id, self.keys_refused)


class StoppedTool(View):
    """A tool nobody may dispatch: a person disabled it, or its circuit breaker is open. `*`: all that write."""

    tool: str
    reason: str | None
    disabled_by: str | None
    disabled_at: datetime | None
    open_until: datetime | None
    failures: int | None


class RunningCall(View):
    """A call that was granted and has not ended."""

    effect_id: str
    session_id: str
    call: str
    tool: str
    lease_until: datetime


class Attempt(View):
    """One attempt of an effect. `reported`: what it said after it had lost the effect, which changed nothing."""

    token: int
    worker: str
    claimed_at: datetime
    ended_at: datetime | None
    state: str
    reported: str | None
    reported_at: datetime | None
    latency: timedelta | None
    evidence: Mapping[str, Any]


class Saga(View):
    """One saga. `standing`: effects above tier read, done and not undone; `undoable`: those with an undo."""

    id: str
    session_id: str
    request: int
    name: str | None
    """Of a code-defined one; None where a session's request opened it."""
    version: str | None
    state: SagaState
    epoch: int
    reason: str | None
    opened_at: datetime
    closed_at: datetime | None
    standing: int
    undone: int
    unknown: int
    undoable: int


class Turn(View):
    """One recorded model turn: what it used and cost."""

    turn: int
    effect_id: str
    head: str
    next_head: str
    digest: str
    stop_reason: str | None
    request_digest: str
    """Of all that the model was sent."""
    model_asked: str
    model_answered: str | None
    usage: Tokens
    usd: Decimal | None
    latency: timedelta
    recorded_at: datetime
