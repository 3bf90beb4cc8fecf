"""A session's record as a person follows it: one moment for each thing worth reading, with what was said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from holdfast_cli.output import cell, clean, money, shortened

if TYPE_CHECKING:
    from holdfast_ledger.reading import Reader
    from holdfast_ledger.views import Effect, Entry

FIELDS = {
    "seq": "number of the ledger's entry",
    "at": "when it happened",
    "kind": "the entry's kind, such as message_received, model_turn, effect_outcome",
    "turn": "the turn; null where it belongs to none",
    "call": "TURN.INDEX; null where it is no call",
    "tool": "the call's tool",
    "tier": "its risk",
    "outcome": "how it came out, in one word",
    "actor": "who did it",
    "attempt": "number of the attempt; above 1 an earlier one was lost or refused",
    "text": "what was said, or why, in words",
    "preview": "the call's redacted arguments",
    "seconds": "how long it took",
    "usd": "what it cost; null where unknown",
}


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One line of a timeline; the fields are those of `FIELDS`."""

    seq: int
    at: datetime
    kind: str
    turn: int | None
    call: str | None
    tool: str | None
    tier: str | None
    outcome: str | None
    actor: str | None
    attempt: int | None
    text: str
    preview: str
    seconds: float | None
    usd: Decimal | None

    def record(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in FIELDS}


async def read_moments(reader: Reader, session_id: str, *, after: int = 0) -> list[Moment]:
    """The session's moments after entry `after`, oldest first."""
    entries = await reader.timeline(session_id, after=after)
    calls = any(entry.call for entry in entries)
    effects = await reader.effects(session_id=session_id, kind="call") if calls else []
    by_id = {effect.effect_id: effect for effect in effects}
    digests = {digest for entry in entries if (digest := said_digest(entry))}
    content = await reader.content(session_id, digests) if digests else {}
    return [moment_of(entry, by_id, content) for entry in entries]


def said_digest(entry: Entry) -> str | None:
    """Digest of the message an entry is about."""
    body = entry.body if isinstance(entry.body, Mapping) else {}
    names = {"message_received": "digest", "model_turn": "message"}
    found = body.get(names[entry.kind]) if entry.kind in names else None
    return found if isinstance(found, str) else None


def moment_of(entry: Entry, effects: Mapping[str, Effect], content: Mapping[str, Any]) -> Moment:
    effect = effects.get(entry.effect_id or "") or effect_of_call(entry, effects)
    body = entry.body if isinstance(entry.body, Mapping) else {}
    return Moment(
        seq=entry.seq,
        at=entry.at,
        kind=entry.kind,
        turn=entry.turn,
        call=entry.call,
        tool=entry.tool,
        tier=entry.tier,
        outcome=entry.outcome,
        actor=entry.actor,
        attempt=entry.token,
        text=text_of(entry, body, content),
        preview=(effect.preview if effect and effect.preview else body.get("preview")) or "",
        seconds=entry.latency.total_seconds() if entry.latency else None,
        usd=cost_of(body),
    )


def effect_of_call(entry: Entry, effects: Mapping[str, Effect]) -> Effect | None:
    """The effect of an entry that names its call and arguments, but was born before the effect's row."""
    if entry.call is None:
        return None
    named = (effect for effect in effects.values() if effect.call == entry.call)
    return next((effect for effect in named if entry.args_digest in (None, effect.fingerprint)), None)


def cost_of(body: Mapping[str, Any]) -> Decimal | None:
    usd = body.get("usd", body.get("outcome", {}).get("usd") if isinstance(body.get("outcome"), Mapping) else None)
    return None if usd is None else Decimal(str(usd))


def text_of(entry: Entry, body: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """What an entry says in words: the message itself, an outcome's text, or a reason."""
    digest = said_digest(entry)
    if digest is not None:
        return plain_text(content.get(digest, ""))
    outcome = body.get("outcome")
    if isinstance(outcome, Mapping):
        return str(outcome.get("text") or "")
    return str(body.get("reason") or body.get("erased") or "")


def plain_text(content: Any) -> str:
    """The text of a message: itself, or its text blocks."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    blocks = [block for block in content if isinstance(block, Mapping) and block.get("type") == "text"]
    return "\n".join(str(block.get("text", "")) for block in blocks)


def told(moments: Iterable[Moment]) -> Iterable[str]:
    """The timeline as lines: the day once, then the time of each moment."""
    day = ""
    for moment in moments:
        lines = words(moment)
        if not lines:
            continue
        at = moment.at.astimezone()
        if (today := at.strftime("%A, %d %B %Y")) != day:
            yield click.style(today, dim=True)
            day = today
        first, *rest = lines
        yield f"{at:%H:%M:%S}  {first}"
        yield from (f"{'':10}{line}" for line in rest)


def words(moment: Moment) -> list[str]:
    """One moment in words; none for what only an auditor needs."""
    if moment.kind in DULL or (moment.kind in ("model_intent", "effect_intent") and (moment.attempt or 1) == 1):
        return []
    say = SAYINGS.get(moment.kind)
    return say(moment) if say else [f"{moment.kind} {cell(moment.outcome)} {shortened(moment.text)}".rstrip()]


DULL = frozenset({"saga_opened", "session_status"})
GOOD = {"done": ("✓", "green"), "landed_late": ("✓", "yellow")}


def _opened(moment: Moment) -> list[str]:
    return [click.style(f"opened for {cell(moment.actor)}", dim=True)]


def _message(moment: Moment) -> list[str]:
    first, *rest = clean(moment.text).splitlines() or [""]
    steering = " (steering)" if moment.outcome == "steering" else ""
    return [click.style(f"{cell(moment.actor)}{steering}: ", bold=True) + first, *rest]


def _turn(moment: Moment) -> list[str]:
    took = f", {moment.seconds:.1f}s" if moment.seconds is not None else ""
    stop = f", {moment.outcome}" if moment.outcome not in ("end_turn", "tool_use", None) else ""
    head = click.style(f"turn {moment.turn} ({cell(moment.actor)}{took}, {money(moment.usd)}{stop})", dim=True)
    return [head, *clean(moment.text).splitlines()]


def _attempt(moment: Moment) -> list[str]:
    what = f"{moment.call} {moment.tool}" if moment.call else f"turn {moment.turn}"
    return [click.style(f"{what}: attempt {moment.attempt}; the one before was lost or refused", fg="yellow")]


def _outcome(moment: Moment) -> list[str]:
    mark, colour = GOOD.get(moment.outcome or "", ("?" if moment.outcome == "unknown" else "✗", "red"))
    took = f"  {moment.seconds:.1f}s" if moment.seconds is not None else ""
    named = click.style(cell(moment.tool), bold=True)
    line = f"{click.style(mark, fg=colour)} {moment.call} {named} {shortened(moment.preview)}{took}"
    bad = mark != "✓"
    return [line, *([f"  {moment.outcome}: {shortened(moment.text)}"] if bad else [])]


def _asked(moment: Moment) -> list[str]:
    what = f"{moment.call} {moment.tool} ({moment.tier}) waits for a person"
    return [click.style(what, fg="yellow"), f"  {shortened(moment.preview)}"]


def _question(moment: Moment) -> list[str]:
    return [click.style(f"asks a person: {shortened(moment.preview)}", fg="yellow")]


def _decided(moment: Moment) -> list[str]:
    reason = f": {shortened(moment.text)}" if moment.text else ""
    return [f"{cell(moment.actor)}: {moment.call} {cell(moment.tool)} {moment.outcome}{reason}"]


def _command(moment: Moment) -> list[str]:
    reason = f": {shortened(moment.text)}" if moment.text else ""
    return [f"{cell(moment.actor)}: {moment.outcome}{reason}"]


def _saga(moment: Moment) -> list[str]:
    if moment.outcome == "COMMITTED":
        return []
    return [click.style(f"request {cell(moment.outcome).lower()}: {shortened(moment.text)}", fg="magenta")]


def _refused(moment: Moment) -> list[str]:
    return [click.style(f"a signal was refused: {shortened(moment.text)}", fg="yellow")]


def _limit(moment: Moment) -> list[str]:
    return [click.style(shortened(moment.text), fg="yellow")]


def _closed(moment: Moment) -> list[str]:
    reason = f": {shortened(moment.text)}" if moment.text else ""
    return [click.style(f"{cell(moment.outcome)}{reason}", dim=True)]


def _switch(moment: Moment) -> list[str]:
    what = "every tool that writes" if moment.tool == "*" else cell(moment.tool)
    how = moment.kind.removeprefix("tool_")
    return [click.style(f"{cell(moment.actor)}: {what} {how}: {shortened(moment.text)}", fg="yellow")]


def _exported(moment: Moment) -> list[str]:
    return [f"{cell(moment.actor)}: exported a session's record"]


SAYINGS = {
    "session_opened": _opened,
    "message_received": _message,
    "model_turn": _turn,
    "model_intent": _attempt,
    "effect_intent": _attempt,
    "effect_outcome": _outcome,
    "effect_resolved": _decided,
    "approval_asked": _asked,
    "question_asked": _question,
    "approval_decided": _decided,
    "call_decided": _decided,
    "command_received": _command,
    "saga_closed": _saga,
    "request_closed": _saga,
    "signal_refused": _refused,
    "limit_reached": _limit,
    "session_closed": _closed,
    "tool_disabled": _switch,
    "tool_enabled": _switch,
    "ledger_exported": _exported,
}
"""How each kind of entry is told; one that is missing here is shown by its bare name."""
