"""What goes into the ledger's functions for sagas and what comes out: plain frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from holdfast.facts import Fact
from holdfast.states import EffectState, RecoveryClass, SagaState, Tier

Resolving = Literal["retry", "edit", "mark_done", "waive", "keep", "unwind", "abort"]
"""What a person may say of a saga. `retry`: its undos, or its forward side, are tried again. `edit`: a step's undo
gets other arguments. `mark_done`: a step was undone by hand. `waive`: a step may stand. `keep`: all that stands is
kept. `unwind`: undo what can be. `abort`: the same of a saga that still runs."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """Where a saga stands after it was asked to move. `code` and `said`: why it did not.

    Codes: `missing`, `committed`, `aborted`, `pivot`, `taken`, `reused`, `changed`, `not_held`, `step`, `nothing`,
    `in_doubt`, `undone`, `unknown`.
    """

    state: SagaState | None
    epoch: int
    code: str | None = None
    said: str = ""


@dataclass(frozen=True, kw_only=True)
class SagaOpening:
    """A code-defined saga as its workflow opens it; its id names its chain."""

    saga_id: str
    run_id: str
    name: str
    version: str
    source: str
    catalogue_digest: str
    catalogue: bytes
    input: bytes
    """Canonical JSON of what it was started with."""
    salt: bytes
    requested_by: str
    on_behalf_of: str | None
    tenant: str | None
    roles: tuple[str, ...]
    labels: Mapping[str, str]
    parent: str | None
    started_at: datetime
    task_queue: str = ""


@dataclass(frozen=True, kw_only=True)
class SagaRow:
    """A saga as those who work on it need it. The fields from `name` on are None where a request opened it."""

    saga_id: str
    session_id: str
    state: SagaState
    epoch: int
    reason: str
    goal: str | None
    past_pivot: bool
    catalogue_digest: str | None
    name: str | None
    version: str | None
    owner: str | None
    owner_run: str | None
    parent: str | None
    salt: bytes | None
    input: Mapping[str, Any] | None
    result: Any


@dataclass(frozen=True, kw_only=True)
class SagaStep:
    """One step above tier read that stood, stands, or may stand."""

    effect_id: str
    call: str
    tool: str
    tool_version: str | None
    tier: Tier
    recovery: RecoveryClass
    state: EffectState
    doubt: bool
    lease_left: timedelta | None
    order: int | None
    undo_tool: str | None
    undo_version: str | None
    has_undo_args: bool
    settle_tried: int
    waived: str | None
    pivot: bool
    key_lives: bool
    """The service still knows the key it was sent with."""
    settled_at: datetime | None
    undo_id: str | None
    undo_by: str | None
    undo_state: EffectState | None
    undo_said: str
    undo_attempts: int
    undone_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class StepArguments:
    """What a step was sent with (`args`, under the key its effect id and `keys_refused` make), and its undo's."""

    state: EffectState
    turn: int
    call: str
    tool: str
    tier: Tier
    fingerprint: str
    args: bytes
    salt: bytes
    keys_refused: int
    undo_args: bytes | None


@dataclass(frozen=True, kw_only=True)
class MoveSaga:
    """The forward side says where a code-defined saga stands."""

    session_id: str
    saga_id: str
    epoch: int
    state: SagaState
    reason: str = ""
    result: bytes | None = None
    outbox: tuple[Fact, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SagaResolution:
    """What a person says of a saga. `id` makes saying it twice one entry."""

    id: str
    session_id: str
    saga_id: str
    what: Resolving
    by: str
    reason: str
    effect_id: str | None = None
    """The step it is about: of `edit`, `mark_done`, `waive`."""
    undo_tool: str | None = None
    undo_version: str | None = None
    undo_args: bytes | None = None
    """Of `edit`, canonical JSON."""
    waive: tuple[str, ...] = ()
    """Of `unwind`: steps that cannot be undone, and may stand."""


@dataclass(frozen=True, kw_only=True)
class UnfinishedSaga:
    """A saga that neither ended nor waits for a person. `owner`: workflow id of its forward side."""

    saga_id: str
    session_id: str
    state: SagaState
    owner: str
    owner_run: str | None
    code_defined: bool
    past_pivot: bool


@dataclass(frozen=True, kw_only=True)
class UnfinishedSagas:
    """A page. `next` is the cursor of the one after it."""

    sagas: tuple[UnfinishedSaga, ...] = ()
    next: str | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedRow:
    """The row of a step or an undo, for the claim that may find it missing."""

    tool_version: str
    args: bytes
    salt: bytes
    preview: str = ""
    pivot: bool = False
    semantic_key: str | None = None
    undo_of: str | None = None
    """Effect id of the step that it undoes."""
    unknown: bool = False
    """It undoes a step of which nobody knows whether it happened."""
