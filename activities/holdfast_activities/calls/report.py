"""What telemetry may know of one attempt of a call: numbers, names and argument keys, never a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from temporalio import activity

from holdfast.states import CallStatus, Tier
from holdfast_activities.calls.endings import Word


@dataclass(frozen=True, kw_only=True)
class CallReport:
    """One attempt that was granted."""

    session_id: str
    turn: int
    call: str
    tool: str
    tier: Tier
    service: str | None
    effect_id: str
    attempt: int
    outcome: Word
    settled: bool
    """The call has its outcome; otherwise another attempt follows."""
    status: CallStatus | None = None
    """That outcome, where this attempt settled it."""
    code: str | None
    latency: timedelta
    size: int
    """Bytes of the result."""
    usd: Decimal | None
    argument_keys: tuple[str, ...]
    error: str | None = None
    """Type of the exception."""

    def fields(self) -> dict[str, Any]:
        """For structured logs."""
        return {
            "session_id": self.session_id,
            "turn": self.turn,
            "call": self.call,
            "tool": self.tool,
            "tier": str(self.tier),
            "effect_id": self.effect_id,
            "attempt": self.attempt,
            "settled": self.settled,
            "status": None if self.status is None else str(self.status),
            "code": self.code,
            "size": self.size,
            "argument_keys": list(self.argument_keys),
            "ms": round(self.latency / timedelta(milliseconds=1)),
            "error": self.error,
        }


def log_call(report: CallReport) -> None:
    activity.logger.info("call %s: %s", report.tool, report.outcome, extra=report.fields())
