"""What clients send to a session and what it carries: inputs of the workflow, its updates and signals.

Bodies do not travel here: clients store a message first and send its digest. Inline `text` is accepted for raw
Temporal starts and signals, up to `MAX_INLINE_BYTES`, and then lives in Temporal until retention.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from holdfast.budget import TighterLimits
from holdfast.wire import Wire

MAX_INLINE_BYTES = 16 * 1024
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
RECEIPT_MARK = 16
"""So many characters of a message's digest are in its receipt."""

SESSION_WORKFLOW = "AgentSession"
UNAUTHENTICATED = "unauthenticated"
SUMMARY_ID = "summary-"
"""Ids of the messages that ask the model for a summary of the conversation begin so; no user's may."""


class Principal(Wire):
    """For whom a session acts."""

    requested_by: str = UNAUTHENTICATED
    on_behalf_of: str | None = None
    roles: tuple[str, ...] = ()
    tenant: str | None = None
    labels: Mapping[str, str] = Field(default_factory=dict)


class Send(Wire):
    """A message for the session. One queued message is one request; a steering one joins the open request."""

    id: str
    digest: str | None = None
    text: str | None = None
    by: str = UNAUTHENTICATED
    steer: bool = False
    trace: Mapping[str, str] = Field(default_factory=dict)
    """W3C trace context of the sender; the request's spans join it."""


class Decide(Wire):
    """A person's decision on one call, bound to its exact arguments by `digest`."""

    id: str
    call: str
    digest: str
    approve: bool
    by: str = UNAUTHENTICATED
    authenticated: bool = False
    reason: str = ""


class Command(Wire):
    """`interrupt` stops this turn and `close` the session, keeping what was done; `abort` undoes this request."""

    id: str
    by: str = UNAUTHENTICATED
    reason: str = ""


ResolveOutcome = Literal["happened", "did_not_happen", "retry", "probe"]
"""What a person says of a call in doubt. `retry`: run it again under the same key; `probe`: ask its service now."""


class Resolve(Wire):
    """What a person found out about a call whose outcome was unknown. Postgres already holds it.

    `call` is `*` for a session held because Postgres was older than it: look again.
    """

    id: str
    call: str
    happened: bool = False
    outcome: ResolveOutcome | None = None
    """More than `happened` can say; where it is missing, that counts."""
    digest: str = ""
    """Of the result a person gave; the result itself is in the effect's row."""
    by: str = UNAUTHENTICATED
    reason: str = ""

    @property
    def what(self) -> ResolveOutcome:
        return self.outcome or ("happened" if self.happened else "did_not_happen")


def checked(found: Resolve) -> str:
    """What the model reads of a call that a person looked into."""
    happened = "did happen" if found.what == "happened" else "did not happen"
    return f"{found.by} checked: this call {happened}. {found.reason}".strip()


class Receipt(Wire):
    """The answer to an update: the command was taken, and as what."""

    id: str
    accepted: Literal["now", "queued", "kept"] = "now"
    detail: str = ""
    message: str | None = None
    """Of a message: the head of its digest, so that its id cannot be used for another one unnoticed."""


class SessionInput(Wire):
    """Input of `AgentSession`. `{"agent": ..., "message": ...}` is enough."""

    agent: str = "default"
    message: str | None = None
    """Inline first message."""
    send: Send | None = None
    """First message by digest, as the client sends it."""
    principal: Principal = Principal()
    limits: TighterLimits = TighterLimits()
    """Lower limits than the agent's, for this session."""
    close_when_idle: bool = False
    """`run`: the session completes once nothing is queued."""


class SessionResult(Wire):
    """What an ended session returns."""

    status: str
    turns: int
    calls: int
    reason: str = ""
    answer_digest: str | None = None
    """Digest of the last assistant message."""
