"""Facts: what the ledger is told. Each has a key of its own, so that telling it twice is one entry.

Facts born in the workflow (asks, decisions, refusals, status) ride as an outbox on every activity until one
that carried them succeeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from holdfast.states import Tier
from holdfast.wire import Wire


class Kind(StrEnum):
    """What an entry of the ledger says. Append only: never rename or reuse a word."""

    SESSION_OPENED = "session_opened"
    SESSION_STATUS = "session_status"
    SESSION_CLOSED = "session_closed"
    MESSAGE_RECEIVED = "message_received"
    MODEL_INTENT = "model_intent"
    MODEL_TURN = "model_turn"
    CALL_DECIDED = "call_decided"  # by policy: allow, deny, ask
    APPROVAL_ASKED = "approval_asked"
    QUESTION_ASKED = "question_asked"  # the model asks a person; the next message answers
    APPROVAL_DECIDED = "approval_decided"  # by a person or by expiry
    EFFECT_INTENT = "effect_intent"
    EFFECT_OUTCOME = "effect_outcome"
    EFFECT_RESOLVED = "effect_resolved"  # by a person or a probe
    SAGA_OPENED = "saga_opened"
    SAGA_CLOSED = "saga_closed"
    REQUEST_CLOSED = "request_closed"  # otherwise than by its last turn's commit
    COMMAND_RECEIVED = "command_received"  # interrupt, abort, close
    SIGNAL_REFUSED = "signal_refused"
    LIMIT_REACHED = "limit_reached"
    SAGA_BUILD_WAIVED = "saga_build_waived"  # workers may serve that lack its code
    TOOL_DISABLED = "tool_disabled"  # by a person, in the chain `@operations`
    TOOL_ENABLED = "tool_enabled"
    SAGA_UNWINDING = "saga_unwinding"  # from here on nothing of it goes forward
    SAGA_MOVED = "saga_moved"  # a code-defined one: past its pivot, committing, forward pending, taken up again
    SAGA_RESOLVED = "saga_resolved"  # by a person
    SESSION_ARCHIVED = "session_archived"  # to a file, by a person, in the chain `@operations`
    LEDGER_EXPORTED = "ledger_exported"  # by a person, in the chain `@operations`
    CONTENTS_READ = "contents_read"  # decrypted for a person, in the chain `@operations`
    KEYS_ROTATED = "keys_rotated"  # likewise
    SESSION_ERASED = "session_erased"  # likewise


class Fact(Wire):
    """One thing that happened.

    `key` is unique within the session; the same key with another body is a conflict. The named fields stand in
    clear columns that people filter by; `body` is stored as canonical JSON bytes.
    """

    key: str
    kind: Kind
    at: datetime
    turn: int | None = None
    call: str | None = None
    """`TURN.INDEX`, e.g. `3.1`."""
    effect_id: str | None = None
    saga_id: str | None = None
    tool: str | None = None
    tier: Tier | None = None
    outcome: str | None = None
    actor: str | None = None
    body: Mapping[str, Any] = Field(default_factory=dict)
