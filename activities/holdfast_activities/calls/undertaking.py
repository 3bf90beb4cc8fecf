"""What calls, steps and undos have in common: one effect, its claim, and the tool that carries it out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from opentelemetry import propagate

from holdfast.catalogue import Catalogue, ToolCard
from holdfast.contracts import CallOutcome
from holdfast_activities.calls.attempt import CallAttempt
from holdfast_activities.calls.surroundings import Surroundings
from holdfast_activities.faults import FaultPoint
from holdfast_activities.halt import Halt
from holdfast_activities.retries import BACKOFF_MOST, busy
from holdfast_ledger.errors import LedgerError, LedgerUnavailable
from holdfast_ledger.records import Busy, Claim, Granted, Refused, Settled
from holdfast_ledger.store import Ledger

TRACE_HEADERS = ("traceparent", "tracestate")


@dataclass(frozen=True, kw_only=True)
class Undertaking:
    """One attempt at an effect, as it is asked for."""

    claim: Claim
    catalogue: Catalogue
    card: ToolCard
    trace: Mapping[str, str]
    undo_key: str | None = None
    """Of an undo: the key that its step was sent with."""
    longest_pause: timedelta = BACKOFF_MOST
    """Between two attempts."""


async def looked_up(
    ledger: Ledger, digest: str, tool: str, *, undo: bool = False
) -> tuple[Catalogue, ToolCard] | str:
    """A stored catalogue and a tool of it, or why nothing can go on: Postgres is older than who asks.

    Raises `LedgerUnavailable`.
    """
    try:
        catalogue = await ledger.catalogue(digest)
    except LedgerUnavailable:
        raise
    except LedgerError as error:
        return str(error)
    card = catalogue.compensation(tool) if undo else catalogue.card(tool)
    if card is None:
        return f"the session's catalogue has no {'undo' if undo else 'tool'} `{tool}`"
    return catalogue, card


async def undertaken(around: Surroundings, work: Undertaking, halt: Halt) -> CallOutcome | Settled | Refused | None:
    """Claim the effect and carry it out. None: released, since this attempt is to stop.

    Raises:
        ApplicationError: retryable; another attempt is at work, or a later one is needed.
    """
    sent = time.monotonic()
    claimed = await around.ledger.claim(work.claim)
    if isinstance(claimed, Busy):
        raise busy("call", claimed.retry_after)
    if not isinstance(claimed, Granted):
        return claimed
    return await carried_out(around, work, claimed, sent, halt)


async def carried_out(
    around: Surroundings, work: Undertaking, grant: Granted, sent: float, halt: Halt
) -> CallOutcome | None:
    """Dispatch and record what was granted. `sent`: the monotonic time just before the claim was."""
    around.faults(FaultPoint.AFTER_CLAIM, work.card.name)
    attempt = CallAttempt(
        claim=work.claim,
        grant=grant,
        claimed_at=sent,
        catalogue=work.catalogue,
        card=work.card,
        around=around,
        trace=trace_headers(work.trace),
        undo_key=work.undo_key,
        longest_pause=work.longest_pause,
    )
    return await attempt.run(halt)


def trace_headers(given: Mapping[str, str]) -> dict[str, str]:
    """Headers of the span around this attempt, or of the request's where there is none; no others get through."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier or {name: given[name] for name in TRACE_HEADERS if name in given}
