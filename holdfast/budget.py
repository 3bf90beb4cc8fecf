"""Limits of a session and what it has spent; pure arithmetic on recorded numbers.

Spend comes only from recorded activity results, so replay and retry never count a turn twice.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Literal

from pydantic import Field

from holdfast.durations import Duration
from holdfast.wire import Declared, Wire


class Limits(Declared):
    """Where a session stops by itself. `None` means no limit."""

    turns: int | None = Field(default=25, ge=1)
    calls: int | None = Field(default=200, ge=0)
    tokens: int | None = Field(default=None, ge=1)
    usd: Decimal | None = Field(default=None, gt=0)
    wall_time: Duration | None = None
    parallel_calls: int = Field(default=8, ge=1, le=50)
    idle_timeout: Duration = timedelta(days=7)
    at_end: Literal["wrap_up", "stop"] = "wrap_up"
    """`wrap_up`: one last turn without tools, so that the user hears where things stand."""


class TighterLimits(Wire):
    """One session's own limits: each may lower its agent's, none may raise it."""

    turns: int | None = Field(default=None, ge=1)
    calls: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=1)
    usd: Decimal | None = Field(default=None, gt=0)
    wall_time: Duration | None = None

    def within(self, limits: Limits) -> Limits:
        """The lower of both, limit by limit."""
        own = {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
        lower = {
            name: value
            for name, value in own.items()
            if (agents := getattr(limits, name)) is None or value < agents
        }
        return limits.model_copy(update=lower)


class Usage(Wire):
    """Tokens of one model turn as the API counted them."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    @property
    def total(self) -> int:
        return self.input + self.output + self.cache_read + self.cache_write


class Lost(Wire):
    """Attempts at a model turn that were billed perhaps, with nobody to tell how much: what is assumed of them.

    `usd` is None where the price is unknown.
    """

    attempts: int = 0
    tokens: int = 0
    usd: Decimal | None = Decimal(0)

    @classmethod
    def assumed(cls, attempts: int, each: Usage, usd_each: Decimal | None) -> Lost:
        """So many attempts, each of which used and cost the most that it could."""
        usd = None if usd_each is None else attempts * usd_each
        return cls(attempts=attempts, tokens=attempts * each.total, usd=usd)


class Spend(Wire):
    """What a session has used so far, lost answers included. `usd` is None once any turn's price is unknown."""

    turns: int = 0
    calls: int = 0
    tokens: int = 0
    usd: Decimal | None = Decimal(0)
    lost_attempts: int = 0

    def with_turn(self, usage: Usage, usd: Decimal | None) -> Spend:
        known = None if self.usd is None or usd is None else self.usd + usd
        return self.model_copy(update={"turns": self.turns + 1, "tokens": self.tokens + usage.total, "usd": known})

    def with_lost(self, lost: Lost | None) -> Spend:
        if lost is None:
            return self
        known = None if self.usd is None or lost.usd is None else self.usd + lost.usd
        attempts = self.lost_attempts + lost.attempts
        return self.model_copy(
            update={"tokens": self.tokens + lost.tokens, "usd": known, "lost_attempts": attempts}
        )

    def with_calls(self, number: int, usd: Decimal | None = Decimal(0)) -> Spend:
        known = None if self.usd is None or usd is None else self.usd + usd
        return self.model_copy(update={"calls": self.calls + number, "usd": known})


def exhausted(limits: Limits, spend: Spend, elapsed: timedelta) -> str | None:
    """Say which limit is reached, in words for the model and the user, or None.

    A dollar limit with an unknown price counts as reached: no money figure is invented.
    """
    if limits.turns is not None and spend.turns >= limits.turns:
        return f"the limit of {limits.turns} turns is reached"
    if limits.calls is not None and spend.calls > limits.calls:
        return f"the limit of {limits.calls} tool calls is reached"
    if limits.tokens is not None and spend.tokens >= limits.tokens:
        return f"the limit of {limits.tokens} tokens is reached"
    if limits.usd is not None:
        if spend.usd is None:
            return f"a limit of ${limits.usd} is set, but this model's price is unknown"
        if spend.usd >= limits.usd:
            return f"the limit of ${limits.usd} is reached"
    if limits.wall_time is not None and elapsed >= limits.wall_time:
        return f"the limit of {limits.wall_time} is reached"
    return None
