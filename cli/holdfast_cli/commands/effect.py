"""`effect list | show | resolve`: everything that reached outside, and how it came out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import Group, command, pass_app
from holdfast_cli.commands.resolve import resolve
from holdfast_cli.exits import Exit
from holdfast_cli.finding import find_session, note_reading, parse_since, reader_of
from holdfast_cli.output import cell, clean, money, shortened, span, table

if TYPE_CHECKING:
    from holdfast_ledger.views import Attempt, Effect

STATES = ("OPEN", "CLAIMED", "DONE", "FAILED", "UNKNOWN", "CANCELLED")

FIELDS = {
    "effect_id": "its id",
    "idempotency_key": "what its service sees: the id, until the service refuses that for good",
    "session_id": "its session",
    "kind": "model, call or undo",
    "turn": "its turn",
    "call": "TURN.INDEX; null for a model call",
    "tool": "its tool",
    "tier": "its risk",
    "recovery": "what a lost attempt permits",
    "state": "OPEN, CLAIMED, DONE, FAILED, UNKNOWN or CANCELLED",
    "doubt": "whether an attempt that never reported may have landed",
    "attempts_used": "attempts so far",
    "attempts_budget": "attempts it may have; 0 is unlimited",
    "preview": "its redacted arguments",
    "outcome": "what its last attempt said: status, code, text, size",
    "result_bytes": "size of its whole result",
    "undo_tool": "the tool that would undo it",
    "probes": "how often its service was asked while the outcome was unknown",
    "probed_at": "when last",
    "probe_said": "what it said",
    "saga_id": "the saga it belongs to",
    "planned_at": "when it was planned",
    "settled_at": "when its outcome was final",
    "latency": "seconds the last attempt took",
    "usd": "what it cost; null where unknown",
}
SHOW_FIELDS = {
    **FIELDS,
    "attempts": "token, worker, claimed_at, ended_at, state, reported, latency and evidence of each",
}


@click.group("effect", cls=Group)
def effect() -> None:
    """List, show and resolve what reached outside."""


def record(found: Effect) -> dict[str, Any]:
    return {name: getattr(found, name) for name in FIELDS}


@command(
    "list",
    examples=(
        "holdfast effect list --session 0198a7c2",
        "holdfast effect list --unknown",
        "holdfast effect list --tool http_request --since 1d -o jsonl",
    ),
    fields=FIELDS,
)
@click.option("--session", metavar="SESSION", help="Only this session's.")
@click.option(
    "--state", "states", type=click.Choice(STATES, case_sensitive=False), multiple=True, help="Repeatable."
)
@click.option("--unknown", is_flag=True, help="Only those in doubt: the same as --state UNKNOWN.")
@click.option("--tool", metavar="NAME", help="Only of this tool.")
@click.option("--kind", type=click.Choice(["model", "call", "undo"]), help="Only of this kind.")
@click.option("--since", metavar="WHEN", help="Only planned since: `2h`, `3d`, or a date.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@pass_app
def list_effects(
    app: App,
    session: str | None,
    states: tuple[str, ...],
    unknown: bool,
    tool: str | None,
    kind: str | None,
    since: str | None,
    limit: int,
) -> int:
    """List effects by session, in the order they were planned."""
    from holdfast.states import EffectState

    async def read() -> list[Effect]:
        async with app.ledger() as ledger:
            listed = await reader_of(ledger).effects(
                session_id=await find_session(ledger, session) if session else None,
                states=[EffectState(state) for state in (*states, *(("UNKNOWN",) if unknown else ()))] or None,
                tool=tool,
                kind=kind,
                since=parse_since(since),
                limit=limit,
            )
            await note_reading(ledger, (each.session_id for each in listed), "effect list")
            return listed

    found = app.run(read())
    rows = [{**record(each), "short": each.effect_id[:12], "name": name_of(each)} for each in found]
    if app.out.machine:
        rows = [record(each) for each in found]
    columns = {
        "short": "effect",
        "name": "what",
        "tier": "tier",
        "state": "state",
        "attempts_used": "attempts",
        "planned_at": "planned",
        "session_id": "session",
    }
    app.out.rows(rows, columns, empty="No effects.", key="effect_id")
    return Exit.DONE


def name_of(found: Effect) -> str:
    return f"{found.call} {found.tool}" if found.call else f"turn {found.turn}"


@command(
    "show",
    examples=("holdfast effect show 5f3a9c01", "holdfast effect show 5f3a9c01 --json"),
    fields=SHOW_FIELDS,
)
@click.argument("effect_id", metavar="EFFECT")
@pass_app
def show(app: App, effect_id: str) -> int:
    """Show one effect and each attempt at it: which worker, when, and what it reported."""

    async def read() -> tuple[Effect, list[Attempt]]:
        async with app.ledger() as ledger:
            reader = reader_of(ledger)
            found = await reader.effect(await reader.effect_id(effect_id))
            await note_reading(ledger, [found.session_id], "effect show")
            return found, await reader.attempts(found.effect_id)

    found, attempts = app.run(read())
    fields = {**record(found), "attempts": [attempt.model_dump() for attempt in attempts]}
    app.out.one(fields, text_of(found, attempts), quiet=str(found.state))
    return Exit.DONE


def text_of(found: Effect, attempts: list[Attempt]) -> str:
    outcome = found.outcome or {}
    facts = {
        "state": found.state + (" (an attempt that never reported may have landed)" if found.doubt else ""),
        "what": f"{name_of(found)} ({cell(found.tier)}, {found.recovery})",
        "key": found.idempotency_key if found.kind == "call" else None,
        "session": found.session_id,
        "saga": found.saga_id,
        "arguments": shortened(found.preview or "", 2000),
        "outcome": clean(str(outcome.get("text") or outcome.get("status") or "")),
        "undo": found.undo_tool,
        "result": f"{found.result_bytes} bytes" if found.result_bytes is not None else None,
        "asked": f"{found.probes} times, last {cell(found.probed_at)}: {found.probe_said}"
        if found.probes
        else None,
        "cost": money(found.usd),
    }
    lines = [found.effect_id, *(f"  {name:<9}  {value}" for name, value in facts.items() if value)]
    rows = [
        [
            str(attempt.token),
            attempt.state + (f", later {attempt.reported}" if attempt.reported else ""),
            cell(attempt.claimed_at),
            span(attempt.latency) if attempt.latency else "-",
            cell(attempt.worker),
            cell(attempt.evidence),
        ]
        for attempt in attempts
    ]
    if rows:
        lines += ["", table(rows, ["attempt", "state", "claimed", "took", "worker", "evidence"])]
    return "\n".join(lines)


for each in (list_effects, show, resolve):
    effect.add_command(each)
