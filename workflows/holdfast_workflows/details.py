"""The session in markdown, for someone who knows only the Temporal UI: status, spend, what waits for whom."""

from __future__ import annotations

import json
from datetime import datetime

from holdfast_workflows.state import OpenCall, SessionState


def details(state: SessionState, session_id: str) -> str:
    lines = [f"**{state.status}**" + (f": {state.reason}" if state.reason else "")]
    lines.append(f"{_whom(state)}; {_spend(state)}")
    for call in state.asks:
        lines += _question(call) if call.ask and call.ask.question else _approval(call, session_id)
    request = state.request
    if request and request.turn:
        lines += [
            f"**In doubt**: call {c.number} `{c.call.tool}`: {c.unknown}" for c in request.turn.calls if c.unknown
        ]
        lines += [_until(c.wake_at) for c in request.turn.calls if c.wake_at]
    if state.compensations:
        registered = ", ".join(f"{c.call} `{c.undo}`" for c in state.compensations)
        lines.append(f"Compensations registered by the open request: {registered}")
    if state.queue:
        lines.append(f"{len(state.queue)} message(s) queued")
    if state.refused:
        lines.append(f"_{state.refused}_")
    if state.spoken:
        lines.append("> " + state.spoken.replace("\n", " "))
    return "\n\n".join(lines)


def _whom(state: SessionState) -> str:
    """Also here, since a continued run loses the static details of the first."""
    principal = state.principal
    behalf = f" on behalf of {principal.on_behalf_of}" if principal.on_behalf_of else ""
    return f"{state.agent} for {principal.requested_by}{behalf}"


def _spend(state: SessionState) -> str:
    usd = "cost unknown" if state.spend.usd is None else f"${state.spend.usd:.4f}"
    lost = state.spend.lost_attempts
    assumed = f", of it assumed for {lost} lost answers" if lost else ""
    return f"{state.spend.turns} turns, {state.spend.calls} calls, {state.spend.tokens} tokens, {usd}{assumed}"


def _approval(call: OpenCall, session_id: str) -> list[str]:
    assert call.ask is not None
    payload = json.dumps({"call": call.number, "digest": call.call.digest})
    until = f", until {call.ask.expires_at.isoformat(timespec='minutes')}" if call.ask.expires_at else ""
    return [
        f"**Waits for approval**: call {call.number} `{call.call.tool}` ({call.tier}){until}",
        f"`{call.call.preview}`",
        f"```\nholdfast approve {session_id} {call.number}\n"
        f"temporal workflow signal --workflow-id {session_id} --name approve --input '{payload}'\n```",
    ]


def _question(call: OpenCall) -> list[str]:
    return [f"**Asks a person**: `{call.call.preview}`", "Answer with `holdfast send`."]


def _until(moment: datetime | None) -> str:
    return f"Waits until {moment.isoformat(timespec='seconds')}" if moment else ""
