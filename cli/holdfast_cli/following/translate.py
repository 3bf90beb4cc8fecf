"""From what the ledger tells a watcher to the events a follower prints."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from holdfast_cli.following.events import Event
from holdfast_cli.timeline import plain_text

if TYPE_CHECKING:
    from holdfast_ledger.reading import Reader
    from holdfast_ledger.views import Entry
    from holdfast_ledger.watching import Told, WatchEvent

OUTCOMES = {
    "done": "done",
    "landed_late": "done",
    "failed": "failed",
    "unknown": "unknown",
    "cancelled": "cancelled",
    "released": "running",  # a clean transient failure: another attempt follows
}


class Translator:
    """Turns one session's record into events. Reads what an entry only names: messages, arguments."""

    def __init__(self, reader: Reader, session_id: str) -> None:
        self._reader = reader
        self._session_id = session_id
        self._previews: dict[str, str] = {}
        self.answer = ""
        """The last thing the model said."""

    async def events(self, happened: WatchEvent) -> list[Event]:
        from holdfast_ledger.watching import Restarted, Streamed

        match happened:
            case Streamed(kind="text"):
                return [self._event("text", turn=happened.turn, text=happened.text)]
            case Streamed():
                return []
            case Restarted():
                return [self._event("restart", turn=happened.turn)]
            case _:
                return await self._told(happened)

    async def _told(self, told: Told) -> list[Event]:
        entry = told.entry
        body = entry.body if isinstance(entry.body, Mapping) else {}
        match entry.kind:
            case "session_opened":
                session = await self._reader.session(self._session_id)
                return [self._event("session", agent=session.agent, model=session.model, status=session.status)]
            case "session_status":
                return [self._event("status", status=entry.outcome, reason=body.get("reason") or "")]
            case "message_received":
                return [await self._message(entry, body)]
            case "model_turn":
                return [await self._turn(told, body)]
            case "effect_intent" | "effect_outcome" | "call_decided":
                return [self._call(entry, body)]
            case "approval_asked" | "question_asked" | "approval_decided":
                return [self._person(entry, body)]
            case "command_received" | "limit_reached" | "signal_refused" | "request_closed":
                return [self._event("note", text=note(entry, body))]
            case _:
                return []

    async def _message(self, entry: Entry, body: Mapping[str, Any]) -> Event:
        digest = str(body.get("digest"))
        content = await self._reader.content(self._session_id, [digest])
        return self._event("message", by=entry.actor, text=plain_text(content.get(digest, "")))

    async def _turn(self, told: Told, body: Mapping[str, Any]) -> Event:
        if body.get("calls"):
            effects = await self._reader.effects(session_id=self._session_id, kind="call")
            self._previews = {effect.effect_id: effect.preview or "" for effect in effects}
        text = plain_text(told.message)
        self.answer = text or self.answer
        usage = body.get("usage", {})
        return self._event(
            "turn",
            turn=told.entry.turn,
            text=text,
            stop_reason=body.get("stop_reason"),
            model=body.get("model_answered"),
            input_tokens=sum(usage.get(name, 0) for name in ("input", "cache_read", "cache_write")),
            output_tokens=usage.get("output", 0),
            usd=body.get("usd"),
        )

    def _call(self, entry: Entry, body: Mapping[str, Any]) -> Event:
        outcome = body.get("outcome")
        said = outcome.get("text") if isinstance(outcome, Mapping) else body.get("reason")
        if entry.kind == "effect_intent":
            state = "running"
        elif entry.kind == "call_decided":
            state = "cancelled" if entry.outcome == "cancelled" else "denied"
        else:
            state = OUTCOMES.get(entry.outcome or "", entry.outcome or "")
        return self._event(
            "call",
            call=entry.call,
            tool=entry.tool,
            tier=entry.tier,
            state=state,
            preview=self._previews.get(entry.effect_id or "", ""),
            detail=said or "" if state not in ("done", "running") else "",
            seconds=entry.latency.total_seconds() if entry.latency else None,
        )

    def _person(self, entry: Entry, body: Mapping[str, Any]) -> Event:
        if entry.kind == "question_asked":
            return self._event("question", call=entry.call, preview=body.get("preview") or "")
        if entry.kind == "approval_decided":
            reason = body.get("reason") or ""
            return self._event("decision", call=entry.call, outcome=entry.outcome, by=entry.actor, reason=reason)
        expires = body.get("expires_at")
        return self._event(
            "approval",
            call=entry.call,
            tool=entry.tool,
            tier=entry.tier,
            digest=body.get("digest"),
            preview=body.get("preview") or "",
            expires_at=datetime.fromisoformat(expires) if expires else None,
        )

    def _event(self, name: str, **fields: Any) -> Event:
        return Event(name, self._session_id, fields)


def note(entry: Entry, body: Mapping[str, Any]) -> str:
    """One line about what is neither turn nor call."""
    reason = str(body.get("reason") or "")
    match entry.kind:
        case "command_received":
            return f"{entry.actor}: {entry.outcome}" + (f": {reason}" if reason else "")
        case "request_closed":
            return f"the request is {str(entry.outcome).lower()}" + (f": {reason}" if reason else "")
        case "signal_refused":
            return f"a signal was refused: {reason}"
        case _:
            return reason
