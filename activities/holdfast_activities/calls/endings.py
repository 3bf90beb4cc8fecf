"""How one attempt of a call ended, and what a failure means.

The rule for writes: only what is known to have had no effect is clean. Anything else after dispatch is in doubt,
and the tool's recovery class says what doubt permits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import httpx2

from holdfast.catalogue import ToolCard
from holdfast.errors import ToolRefused, ToolUnavailable
from holdfast.states import CallStatus, EffectState, RecoveryClass, Tier
from holdfast_activities.calls.outgoing import NOT_SENT, Outgoing, is_refusal, retry_after
from holdfast_activities.calls.rendering import Rendered

Word = Literal["done", "refused", "transient", "internal", "doubt", "released", "superseded"]
"""How an attempt ended, for logs and metrics."""


class TimedOut(Exception):
    """The attempt took longer than its tool may."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What is recorded of one attempt. State OPEN releases the effect for a next attempt."""

    word: Word
    state: EffectState
    status: CallStatus
    code: str | None = None
    text: str | None = None
    rendered: Rendered | None = None
    doubt: bool = False
    """With OPEN: the attempt may have landed."""
    final: bool = False
    """With FAILED: the service answered for this key, so earlier attempts did not land either."""
    dispatched: bool = True
    retry_after: timedelta | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


def blames_the_service(ending: Ending) -> bool | None:
    """Whether a circuit breaker counts this against the tool. None: it says nothing of its service."""
    if ending.word in ("transient", "doubt", "internal"):
        return True
    return False if ending.word in ("done", "refused") else None


def done(rendered: Rendered, evidence: Mapping[str, Any] | None = None) -> Ending:
    return Ending(
        word="done",
        state=EffectState.DONE,
        status=CallStatus.OK,
        rendered=rendered,
        evidence={**rendered.evidence, **(evidence or {})},
    )


def did_not_happen(card: ToolCard, evidence: Mapping[str, Any]) -> Ending:
    """Its service says so, and will refuse it from now on."""
    return Ending(
        word="refused",
        state=EffectState.FAILED,
        status=CallStatus.ERROR,
        code="permanent",
        text=f"`{card.name}` did not happen: its service was asked, and refuses it from now on.",
        final=True,
        evidence=evidence,
    )


def released(why: str) -> Ending:
    """Stopped before dispatch: nothing happened, and no attempt was used."""
    return Ending(
        word="released",
        state=EffectState.OPEN,
        status=CallStatus.CANCELLED,
        code="cancelled",
        text="This call was stopped before it ran; nothing happened.",
        dispatched=False,
        evidence={"reason": why},
    )


def stopped_read() -> Ending:
    return Ending(
        word="released",
        state=EffectState.OPEN,
        status=CallStatus.CANCELLED,
        code="cancelled",
        text="This call was stopped while it was reading.",
        evidence={"reason": "stopped while reading"},
    )


def unavailable(card: ToolCard, why: str, *, after: timedelta | None = None, **evidence: Any) -> Ending:
    """A clean failure that may pass. The text is what the model reads once the attempts are used up."""
    return Ending(
        word="transient",
        state=EffectState.OPEN,
        status=CallStatus.ERROR,
        code="transient",
        text=_with_fallback(card, f"`{card.name}` is not available: {why}. Nothing was done; it may work later."),
        retry_after=after,
        evidence=evidence,
    )


def judge(
    error: Exception, *, card: ToolCard, tier: Tier, recovery: RecoveryClass, outgoing: Outgoing, reference: str
) -> Ending:
    """What this exception of the tool means.

    Args:
        tier, recovery: of the call's arguments, which may differ from the card's.
        reference: under which an internal error is logged.
    """
    evidence = _evidence(error)
    if isinstance(error, ToolRefused):
        return _refused(card, str(error), evidence, final=outgoing.answered)
    if isinstance(error, ToolUnavailable):
        return unavailable(card, str(error).rstrip("."), after=error.retry_after, **evidence)
    clean = tier is Tier.READ or recovery is RecoveryClass.TRANSACTIONAL
    if isinstance(error, httpx2.HTTPStatusError) and is_refusal(error.response.status_code):
        if clean or (outgoing.sent(error) and not outgoing.standing):
            status = f"{error.response.status_code} {error.response.reason_phrase}".strip()
            said = f"The service refused the request of `{card.name}`: {status}."
            return _refused(card, said, evidence, final=outgoing.answered)
    elif isinstance(error, NOT_SENT) and (clean or (outgoing.sent(error) and not outgoing.standing)):
        return unavailable(card, "the service cannot be reached", **evidence)
    if clean:
        return _clean(error, card, evidence, reference)
    return in_doubt(type(error).__name__, card, recovery, evidence, after=_asked_wait(error))


def in_doubt(
    why: str,
    card: ToolCard,
    recovery: RecoveryClass,
    evidence: Mapping[str, Any],
    *,
    after: timedelta | None = None,
) -> Ending:
    """The attempt may have landed. Where the class permits it, the next attempt finds out or sends the same key."""
    again = recovery in (RecoveryClass.IDEMPOTENT, RecoveryClass.PROBE)
    return Ending(
        word="doubt",
        state=EffectState.OPEN if again else EffectState.UNKNOWN,
        status=CallStatus.UNKNOWN,
        code="unknown",
        text=(
            f"The outcome of `{card.name}` is unknown ({why}): it may have been carried out, and a person is "
            "checking. Do not call it again for the same purpose."
        ),
        doubt=again,
        retry_after=after,
        evidence=evidence,
    )


def _clean(error: Exception, card: ToolCard, evidence: Mapping[str, Any], reference: str) -> Ending:
    """An unexpected error that cannot have left an effect: a read's, or one that was rolled back."""
    if isinstance(error, TimedOut):
        return unavailable(card, f"no answer within {card.timeout.total_seconds():g} s", **evidence)
    if isinstance(error, httpx2.HTTPStatusError) and not is_refusal(error.response.status_code):
        status = error.response.status_code
        return unavailable(card, f"the service answered {status}", after=_asked_wait(error), **evidence)
    if isinstance(error, httpx2.TransportError | TimeoutError | ConnectionError):
        return unavailable(card, f"the request failed ({type(error).__name__})", **evidence)
    return Ending(
        word="internal",
        state=EffectState.FAILED,
        status=CallStatus.ERROR,
        code="internal",
        text=_with_fallback(
            card, f"`{card.name}` failed inside (reference {reference}). Nothing was changed; go on without it."
        ),
        evidence={**evidence, "reference": reference},
    )


def _refused(card: ToolCard, text: str, evidence: Mapping[str, Any], *, final: bool) -> Ending:
    return Ending(
        word="refused",
        state=EffectState.FAILED,
        status=CallStatus.ERROR,
        code="permanent",
        text=_with_fallback(card, text),
        final=final,
        evidence=evidence,
    )


def _evidence(error: Exception) -> dict[str, Any]:
    """What is known of a failure, without a value of the call in it: messages may quote arguments."""
    known: dict[str, Any] = {"error": type(error).__name__}
    if isinstance(error, httpx2.HTTPStatusError):
        known["http_status"] = error.response.status_code
        if request_id := error.response.headers.get("x-request-id") or error.response.headers.get("request-id"):
            known["request_id"] = request_id[:200]
    return known


def _asked_wait(error: Exception) -> timedelta | None:
    return retry_after(error.response) if isinstance(error, httpx2.HTTPStatusError) else None


def _with_fallback(card: ToolCard, text: str) -> str:
    return f"{text}\n{card.fallback}" if card.fallback and not card.required else text
