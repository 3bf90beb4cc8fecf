"""What a follower is told. With `-o jsonl` each event is one line; its names and fields are documented here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EVENTS: Mapping[str, Mapping[str, str]] = {
    "session": {"agent": "its agent", "model": "the model asked for", "status": "as it is found"},
    "status": {"status": "the session's status from now on", "reason": "why, in words"},
    "message": {"by": "its sender", "text": "what the user said"},
    "text": {"turn": "the streaming turn", "text": "the next piece of it"},
    "restart": {"turn": "an attempt was lost: its text begins anew"},
    "turn": {
        "turn": "a turn that is recorded",
        "text": "all it said",
        "stop_reason": "why the model stopped",
        "model": "the model that answered",
        "input_tokens": "tokens read, cached ones included",
        "output_tokens": "tokens written",
        "usd": "its cost; null where the price is unknown",
    },
    "call": {
        "call": "TURN.INDEX",
        "tool": "its tool",
        "tier": "its risk",
        "state": "running, done, failed, denied, cancelled or unknown",
        "preview": "its redacted arguments",
        "detail": "an error in words; empty where all is well",
        "seconds": "how long it took; null while it runs",
    },
    "approval": {
        "call": "the call that waits",
        "tool": "its tool",
        "tier": "its risk",
        "digest": "names its exact arguments",
        "preview": "its redacted arguments",
        "expires_at": "until when a person may decide",
    },
    "question": {"call": "the call that asks", "preview": "what the model wants to know"},
    "decision": {
        "call": "the call that was decided",
        "outcome": "approved, denied or expired",
        "by": "who decided",
        "reason": "why",
    },
    "note": {"text": "something else a person should know, such as a limit reached or a command given"},
    "end": {
        "status": "how it stands as the follower leaves",
        "reason": "why, in words",
        "answer": "the last thing the model said",
        "turns": "turns so far",
        "calls": "tool calls so far",
        "usd": "cost so far; null where a price is unknown",
    },
}


@dataclass(frozen=True)
class Event:
    """One thing that happened. `fields` are those of `EVENTS[name]`."""

    name: str
    session_id: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        return {"event": self.name, "session_id": self.session_id, **self.fields}
