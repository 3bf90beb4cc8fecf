"""The words for where things stand: one list each, everywhere."""

from __future__ import annotations

from enum import StrEnum


class SessionStatus(StrEnum):
    RUNNING = "running"
    IDLE = "idle"  # for the next message
    WAITING = "waiting"  # for a person
    HELD = "held"  # an outcome is unknown
    CLOSING = "closing"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"

    @property
    def ended(self) -> bool:
        return self in (SessionStatus.COMPLETED, SessionStatus.FAILED, SessionStatus.ABORTED)


class Tier(StrEnum):
    """The risk of a tool."""

    READ = "read"
    REVERSIBLE = "reversible"
    IRREVERSIBLE = "irreversible"
    PRIVILEGED = "privileged"


class RecoveryClass(StrEnum):
    """What an expired lease permits, design section 4."""

    RETRY = "retry"
    IDEMPOTENT = "idempotent"
    PROBE = "probe"
    OPERATOR = "operator"
    TRANSACTIONAL = "transactional"


class EffectState(StrEnum):
    OPEN = "OPEN"
    CLAIMED = "CLAIMED"
    DONE = "DONE"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"
    CANCELLED = "CANCELLED"


class SagaState(StrEnum):
    OPEN = "OPEN"
    COMMITTING = "COMMITTING"
    UNWINDING = "UNWINDING"
    COMMITTED = "COMMITTED"
    ABORTED = "ABORTED"
    HELD = "HELD"
    STUCK = "STUCK"
    FORWARD_PENDING = "FORWARD_PENDING"


class CallStatus(StrEnum):
    """What the model is told of a call."""

    OK = "ok"
    ERROR = "error"  # refused, failed or invalid: nothing stands, the text says why
    DENIED = "denied"  # by policy or a person
    CANCELLED = "cancelled"  # before it was dispatched
    UNKNOWN = "unknown"  # may have happened; a person or a probe must say


class Verdict(StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    ASK = "ask"
