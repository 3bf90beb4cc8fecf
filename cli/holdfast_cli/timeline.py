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
    "authenticated": "whether that name was verified; null where no person decided",
    "rule": "the rule that let it pass, asked or refused it; null where it is no decision",
    "undoes": "the call it undoes; null where it is no compensation",
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
    authenticated: bool | None
    rule: str | None
    undoes: str | None
    attempt: int | None
    text: str
    preview: str
    seconds: float | None
    usd: Decimal | None

    def record(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in FIELDS}


UNDO = ":undo"
"""What the effect id of a compensation has behind that of its step."""


async def read_moments(reader: Reader, session_id: str, *, after: int = 0) -> list[Moment]:
    """The session's moments after entry `after`, oldest first."""
    entries = await reader.timeline(session_id, after=after)
    calls = any(entry.call for entry in entries)
    effects = await reader.effects(session_id=session_id) if calls else []
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
        authenticated=body.get("authenticated"),
        rule=body.get("rule"),
        undoes=entry.call if (entry.effect_id or "").endswith(UNDO) else None,
        attempt=entry.token,
        text=text_of(entry, body, content),
        preview=(effect.preview if effect and effect.preview else body.get("preview")) or "",
        seconds=entry.latency.total_seconds() if entry.latency else None,
        usd=cost_of(entry, body, effect),
    )


def effect_of_call(entry: Entry, effects: Mapping[str, Effect]) -> Effect | None:
    """The effect of an entry that names its call and arguments, but was born before the effect's row."""
    if entry.call is None:
        return None
    named = (effect for effect in effects.values() if effect.call == entry.call and effect.kind == "call")
    return next((effect for effect in named if entry.args_digest in (None, effect.fingerprint)), None)


def cost_of(entry: Entry, body: Mapping[str, Any], effect: Effect | None) -> Decimal | None:
    """What the entry says it cost; an outcome that says nothing has its effect's cost, which may be nothing."""
    outcome = body.get("outcome")
    said = body.get("usd", outcome.get("usd") if isinstance(outcome, Mapping) else None)
    if said is None and effect is not None and entry.kind == "effect_outcome" and entry.token == effect.token:
        return effect.usd
    return None if said is None else Decimal(str(said))


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


DULL = frozenset({"saga_opened"})
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
    bad = mark != "✓"
    took = f"  {moment.seconds:.1f}s" if moment.seconds is not None else ""
    cost = f"  {money(moment.usd)}" if moment.usd else ""
    tool = click.style(cell(moment.tool), bold=True)
    if moment.undoes:
        mark, colour = ("↶", "magenta") if not bad else (mark, colour)
        what = f"{moment.undoes} {'not undone' if bad else 'undone'} by {tool}"
    else:
        what = f"{moment.call or f'turn {moment.turn}'} {tool} {shortened(moment.preview)}"
    line = f"{click.style(mark, fg=colour)} {what}{took}{cost}"
    return [line, *([f"  {moment.outcome}: {shortened(moment.text)}"] if bad else [])]


def _status(moment: Moment) -> list[str]:
    """Only what no other moment tells: that it stands still, and why."""
    if moment.outcome != "held":
        return []
    return [click.style(f"held: {shortened(moment.text)}", fg="red")]


def _asked(moment: Moment) -> list[str]:
    what = f"{moment.call} {moment.tool} ({moment.tier}) waits for a person"
    return [click.style(what, fg="yellow"), f"  {shortened(moment.preview)}"]


def _question(moment: Moment) -> list[str]:
    return [click.style(f"asks a person: {shortened(moment.preview)}", fg="yellow")]


def _decided(moment: Moment) -> list[str]:
    unverified = " (name not verified)" if moment.authenticated is False and moment.actor != "policy" else ""
    rule = f" by {moment.rule}" if moment.rule and moment.actor == "policy" else ""
    reason = f": {shortened(moment.text)}" if moment.text else ""
    call = f"{moment.call} {cell(moment.tool)}"
    return [f"{cell(moment.actor)}{unverified}: {call} {moment.outcome}{rule}{reason}"]


def _command(moment: Moment) -> list[str]:
    reason = f": {shortened(moment.text)}" if moment.text else ""
    return [f"{cell(moment.actor)}: {moment.outcome}{reason}"]


def _waived(moment: Moment) -> list[str]:
    return [f"{cell(moment.actor)}: workers may serve without its code: {shortened(moment.text)}"]


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


def _unwinding(moment: Moment) -> list[str]:
    return [click.style(f"what it did is undone: {shortened(moment.text)}", fg="magenta")]


def _moved(moment: Moment) -> list[str]:
    return [click.style(f"saga {cell(moment.outcome)}".replace("_", " "), dim=True)]


def _operation(moment: Moment) -> list[str]:
    reason = f": {shortened(moment.text)}" if moment.text else ""
    return [f"{cell(moment.actor)}: {moment.kind.replace('_', ' ')}{reason}"]


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
    "session_status": _status,
    "saga_unwinding": _unwinding,
    "saga_moved": _moved,
    "saga_resolved": _command,
    "saga_build_waived": _waived,
    "ledger_exported": _operation,
    "session_archived": _operation,
    "contents_read": _operation,
    "keys_rotated": _operation,
    "session_erased": _operation,
}
"""How each kind of entry is told; one that is missing here is shown by its bare name."""
