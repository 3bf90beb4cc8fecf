"""What may be done when an attempt of a tool was lost, what a probe answers, and what has no undo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from holdfast.durations import duration
from holdfast.states import RecoveryClass

MAX_PROBE_TIMEOUT = timedelta(seconds=10)
"""A probe runs in the time an attempt has beside its tool's own timeout."""


@dataclass(frozen=True)
class Retry:
    """Pure or read: send again."""

    kind = RecoveryClass.RETRY


@dataclass(frozen=True)
class Idempotent:
    """The service dedupes on `ToolContext.idempotency_key` for `key_ttl`: send again with the same key."""

    key_ttl: timedelta | str = timedelta(hours=24)
    kind = RecoveryClass.IDEMPOTENT

    @property
    def ttl(self) -> timedelta:
        return duration(self.key_ttl)


@dataclass(frozen=True)
class Landed:
    """A probe's answer: it happened, with this result."""

    result: Any = None


@dataclass(frozen=True)
class DidNotHappen:
    """A probe's answer: not so far. `final`: the service will refuse this key from now on, so sending is safe."""

    final: bool = False


@dataclass(frozen=True)
class Inconclusive:
    """A probe's answer: it cannot tell, and why."""

    reason: str = ""


@dataclass(frozen=True)
class Probe:
    """Ask the service whether it happened: `probe(ctx, **args)` gives Landed, DidNotHappen or Inconclusive.

    One that raises, or takes longer than `timeout`, is Inconclusive.
    """

    probe: Callable[..., Any]
    timeout: timedelta | str = MAX_PROBE_TIMEOUT
    kind = RecoveryClass.PROBE

    @property
    def within(self) -> timedelta:
        return duration(self.timeout)


@dataclass(frozen=True)
class Operator:
    """Only a person can tell: the outcome is unknown until one does. The default for writes."""

    kind = RecoveryClass.OPERATOR


@dataclass(frozen=True)
class Transactional:
    """Touches only Holdfast's own Postgres, through `ToolContext.transaction`: exactly once."""

    kind = RecoveryClass.TRANSACTIONAL


Recovery = Retry | Idempotent | Probe | Operator | Transactional


@dataclass(frozen=True)
class Never:
    """There is no undo, and why; the tool asks a person first."""

    reason: str
