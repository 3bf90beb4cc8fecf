"""What a client sends and gets back: ids, messages, findings, receipts, and the refusals it may meet."""

from __future__ import annotations

import re
import secrets
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from holdfast import ids
from holdfast.errors import HoldfastError
from holdfast.messages import MAX_MESSAGE_BYTES, Resolve, ResolveOutcome, SessionInput, checked
from holdfast.states import CallStatus, EffectState, RecoveryClass
from holdfast_ledger.records import Resolution
from holdfast_ledger.views import Effect

if TYPE_CHECKING:
    from holdfast_activities.calls.found import Found

SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

Content = str | list[dict[str, Any]]
"""Text, or content blocks in the Messages API's own format."""


class SessionNotFound(HoldfastError):
    """There is no such session."""

    code = "not_found"


class SessionEnded(HoldfastError):
    """The session has ended and takes nothing more."""

    code = "ended"


class MessageRefused(HoldfastError):
    """The message cannot be sent."""

    code = "invalid"


class Rejected(HoldfastError):
    """The session refused the command, and nothing changed."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Started:
    """`fresh` False: the same start was made before, and this is that session as it stands now."""

    session_id: str
    fresh: bool
    status: str


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """A command reached the session. `recorded`: as a signal in its history, for when a worker is there."""

    id: str
    how: Literal["now", "queued", "kept", "recorded"]
    detail: str = ""
    message: str | None = None
    """Head of the digest of the message that was taken under this id."""


def check_session_id(session_id: str) -> str:
    """The id itself. Raises `MessageRefused` where it cannot be one."""
    if SESSION_ID.fullmatch(session_id):
        return session_id
    raise MessageRefused(
        f"`{session_id}` cannot be a session id: 1 to 128 letters, digits, `.`, `_`, `:` or `-`, "
        "the first a letter or a digit."
    )


def new_id() -> str:
    """A UUIDv7: unique, and ordered by the time it was made."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | secrets.randbits(80)
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(uuid.UUID(int=value))


def message_body(content: Content) -> bytes:
    """The canonical bytes of a message. Raises `MessageRefused` for an empty one or one that is too big."""
    if not content or (isinstance(content, str) and not content.strip()):
        raise MessageRefused("The message is empty.")
    body = ids.canonical(content)
    if len(body) > MAX_MESSAGE_BYTES:
        size, limit = len(body) / 2**20, MAX_MESSAGE_BYTES / 2**20
        raise MessageRefused(
            f"The message has {size:.1f} MB; at most {limit:.0f} MB can be sent. Nothing was sent. "
            "Put the material into a file in the agent's workspace and name the file in the message."
        )
    return body


def message_digest(content: Content) -> str:
    """The name under which a message is stored and sent."""
    return ids.digest(message_body(content))


SETTLED_AS: dict[ResolveOutcome, EffectState] = {
    "happened": EffectState.DONE,
    "did_not_happen": EffectState.FAILED,
    "retry": EffectState.OPEN,
}


def resolution(effect: Effect, said: Resolve, result: Found | None = None) -> Resolution:
    """What the ledger is told of an effect that a person looked into; with the result the model reads both."""
    happened = said.what == "happened"
    shown = None
    if result is not None:
        shown = f"{checked(said)}\nIts result: ".encode("utf-8", "replace") + (result.shown or result.result)
    return Resolution(
        id=said.id,
        effect_id=effect.effect_id,
        session_id=effect.session_id,
        state=SETTLED_AS[said.what],
        by=said.by,
        reason=said.reason,
        outcome={
            "status": (CallStatus.OK if happened else CallStatus.ERROR).value,
            "code": None if happened else "resolved",
            "text": None if result else checked(said),
            "digest": said.digest,
            "size": len(result.result) if result else 0,
        },
        result=result.result if result else None,
        shown=shown,
        undo=result.undo if result else None,
        evidence=result.evidence if result else {},
    )


def check_probe(effect: Effect) -> None:
    """Raises `Rejected` where nobody can be asked about it."""
    if effect.state is not EffectState.UNKNOWN:
        raise Rejected(not_resolved(effect.state, "probe"), "not_pending")
    if effect.recovery is not RecoveryClass.PROBE:
        raise Rejected(f"`{effect.tool}` has no probe to ask: its class is {effect.recovery}.", "invalid")


def not_resolved(state: EffectState | None, outcome: ResolveOutcome) -> str:
    if state is EffectState.UNKNOWN and outcome == "retry":
        return "Its request has ended, so nothing would run it again; say whether it happened."
    return f"The effect is {state}, so nobody needs to say what happened; nothing changed."


def details(session_id: str, request: SessionInput) -> str:
    """What the UI says of a session from its first moment on, in markdown. No message text: it is not secret enough
    for a place that a payload codec may leave readable."""
    principal = request.principal
    lines = [
        f"**Agent** {request.agent}",
        f"**Requested by** {principal.requested_by}",
        *([f"**On behalf of** {principal.on_behalf_of}"] if principal.on_behalf_of else []),
        *([f"**Tenant** {principal.tenant}"] if principal.tenant else []),
        *(f"**{name}** {value}" for name, value in sorted(principal.labels.items())),
        f"Follow it: `holdfast attach {session_id}`",
    ]
    return "  \n".join(lines)
