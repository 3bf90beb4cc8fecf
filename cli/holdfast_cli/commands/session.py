"""`session list | show | recheck`: sessions as they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast_cli.app import App
from holdfast_cli.asking import as_option, pairs, user
from holdfast_cli.commanding import Group, command, pass_app
from holdfast_cli.delivery import DELIVERED_FIELDS, tell
from holdfast_cli.exits import Exit
from holdfast_cli.finding import find_session, parse_since, reader_of
from holdfast_cli.output import cell, money, share, spent
from holdfast_cli.watching import shown, watch_option

if TYPE_CHECKING:
    from holdfast_ledger.views import Session
    from holdfast_workers.client import Delivered

STATUSES = ("running", "idle", "waiting", "held", "closing", "completed", "failed", "aborted")

FIELDS = {
    "session_id": "its id, also its workflow's",
    "agent": "its agent",
    "model": "the model asked for; null until it is opened",
    "status": "running, idle, waiting, held, closing, completed, failed or aborted",
    "status_reason": "why, in words",
    "status_at": "since when",
    "requested_by": "who started it",
    "on_behalf_of": "for whom it acts",
    "tenant": "to which tenant it belongs",
    "roles": "roles that policy looks at",
    "labels": "labels it was started with",
    "started_at": "when it was announced",
    "ended_at": "when it ended; null while it lives",
    "turns": "model turns so far",
    "calls": "tool calls so far",
    "input_tokens": "tokens read, cached ones included",
    "output_tokens": "tokens written",
    "cache_hit_rate": "the part of the tokens read that came from the provider's cache; null where none were read",
    "usd": "cost so far; null where a price is unknown",
    "lost_attempts": "attempts at turns whose answers were lost, and were billed perhaps",
    "assumed_tokens": "what limits count for those, besides the tokens above",
    "assumed_usd": "what limits count for those, besides the cost above; null where a price is unknown",
    "ui": "its address in Temporal's UI; null where none is known",
}


@click.group("session", cls=Group)
def session() -> None:
    """List and show sessions."""


def record(app: App, found: Session) -> dict[str, Any]:
    usage = found.usage
    return {
        "session_id": found.id,
        "agent": found.agent,
        "model": found.model,
        "status": found.status,
        "status_reason": found.status_reason,
        "status_at": found.status_at,
        "requested_by": found.requested_by,
        "on_behalf_of": found.on_behalf_of,
        "tenant": found.tenant,
        "roles": found.roles,
        "labels": found.labels,
        "started_at": found.registered_at,
        "ended_at": found.ended_at,
        "turns": found.turns,
        "calls": found.calls,
        "input_tokens": usage.asked,
        "output_tokens": usage.output,
        "cache_hit_rate": usage.cache_hit_rate,
        "usd": found.usd,
        "lost_attempts": found.lost_attempts,
        "assumed_tokens": found.assumed_tokens,
        "assumed_usd": found.assumed_usd,
        "ui": app.ui_of(found.id),
    }


@command(
    "list",
    examples=(
        "holdfast session list",
        "holdfast session list --status waiting --status held",
        "holdfast session list --agent clerk --since 2d --label case=4711 -o jsonl",
    ),
    fields=FIELDS,
)
@click.option("--status", "statuses", type=click.Choice(STATUSES), multiple=True, help="Only these; repeatable.")
@click.option("--agent", metavar="NAME", help="Only this agent's.")
@click.option("--tenant", metavar="NAME", help="Only this tenant's.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Only with this label; repeatable.")
@click.option("--since", metavar="WHEN", help="Only started since: `2h`, `3d`, or a date.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many.")
@watch_option
@pass_app
def list_sessions(
    app: App,
    statuses: tuple[str, ...],
    agent: str | None,
    tenant: str | None,
    labels: tuple[str, ...],
    since: str | None,
    limit: int,
    watch: bool,
) -> int:
    """List sessions, newest first."""
    from holdfast.states import SessionStatus

    async def read() -> list[Session]:
        async with app.ledger() as ledger:
            return await reader_of(ledger).sessions(
                statuses=[SessionStatus(status) for status in statuses] or None,
                agent=agent,
                tenant=tenant,
                labels=pairs(labels) or None,
                since=parse_since(since),
                limit=limit,
            )

    columns = {
        "session_id": "session",
        "status": "status",
        "agent": "agent",
        "requested_by": "by",
        "started_at": "started",
        "turns": "turns",
        "calls": "calls",
        "usd": "usd",
    }

    def show_list() -> None:
        rows = [record(app, found) for found in app.run(read())]
        app.out.rows(rows, columns, empty="No sessions.", key="session_id")

    return shown(app, show_list, watch=watch)


@command(
    "show",
    examples=("holdfast session show 0198a7c2", "holdfast session show 0198a7c2 --json"),
    fields=FIELDS,
)
@click.argument("session")
@pass_app
def show(app: App, session: str) -> int:
    """Show how a session stands. What happened in it is in `holdfast show`."""

    async def read() -> Session:
        async with app.ledger() as ledger:
            return await reader_of(ledger).session(await find_session(ledger, session))

    found = app.run(read())
    app.out.one(record(app, found), text_of(app, found), quiet=str(found.status))
    return Exit.DONE


def text_of(app: App, found: Session) -> str:
    usage = found.usage
    tokens = f"{usage.asked} in ({share(usage.cache_hit_rate)} from the cache), {usage.output} out"
    facts = {
        "status": f"{found.status}{f': {found.status_reason}' if found.status_reason else ''}",
        "agent": f"{found.agent}, {found.model or 'not opened yet'}",
        "by": found.requested_by + (f" on behalf of {found.on_behalf_of}" if found.on_behalf_of else ""),
        "tenant": found.tenant,
        "labels": cell(found.labels) if found.labels else None,
        "started": cell(found.registered_at),
        "ended": cell(found.ended_at) if found.ended_at else None,
        "spent": f"{spent(found.turns, found.calls)}, tokens {tokens}, {money(found.usd)}",
        "lost": lost_answers(found),
        "ui": app.ui_of(found.id),
    }
    return "\n".join([found.id, *(f"  {name:<8}  {cell(value)}" for name, value in facts.items() if value)])


def lost_answers(found: Session) -> str | None:
    if not found.lost_attempts:
        return None
    assumed = f"{found.assumed_tokens} tokens, {money(found.assumed_usd)}"
    return f"{found.lost_attempts} attempts, billed perhaps: limits count {assumed} for them"


@command(
    "recheck",
    examples=('holdfast session recheck 0198a7c2 --reason "the backup is restored"',),
    fields=DELIVERED_FIELDS,
)
@click.argument("session")
@click.option("--reason", default="", help="Recorded with the command.")
@as_option
@pass_app
def recheck(app: App, session: str, reason: str, as_user: str | None) -> int:
    """Let a held session look again: Postgres was older than it, or a reset left effects on another branch.

    It goes on only if all is there, and nothing waits for a person any more.
    """

    async def again() -> tuple[str, Delivered]:
        async with app.client() as client:
            found = await find_session(client.ledger, session)
            return found, await client.look_again(found, by=as_user or user(), reason=reason)

    session_id, delivered = app.run(again())
    tell(app, session_id, delivered, "It looks again")
    return Exit.DONE


for each in (list_sessions, show, recheck):
    session.add_command(each)
