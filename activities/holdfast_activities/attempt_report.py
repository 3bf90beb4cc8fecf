"""What telemetry may know of one attempt of a model turn: numbers and names, never what was said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal

from holdfast.budget import Usage

AttemptOutcome = Literal["done", "interrupted", "released", "transient", "permanent", "superseded"]


@dataclass(frozen=True, kw_only=True)
class AttemptReport:
    """One attempt that was granted. `usd` is None where nobody can tell the cost."""

    session_id: str
    turn: int
    attempt: int
    outcome: AttemptOutcome
    model_asked: str
    model_answered: str | None
    stop_reason: str | None
    usage: Usage
    usd: Decimal | None
    latency: timedelta
    calls: int = 0
    error: str | None = None
    """Kind of the failure, e.g. `rate_limit_error`."""

    def fields(self) -> dict[str, Any]:
        """For structured logs."""
        return {
            "session_id": self.session_id,
            "turn": self.turn,
            "attempt": self.attempt,
            "model": self.model_answered or self.model_asked,
            "stop_reason": self.stop_reason,
            "input_tokens": self.usage.input,
            "output_tokens": self.usage.output,
            "calls": self.calls,
            "ms": round(self.latency / timedelta(milliseconds=1)),
            "error": self.error,
        }
