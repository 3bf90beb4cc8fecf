"""`approval list`: what waits for a person, with the lines that decide it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import Group, command, pass_app
from holdfast_cli.deciding import decide_lines, signal_line
from holdfast_cli.finding import find_session, note_reading, reader_of
from holdfast_cli.output import cell, now, shortened, span
from holdfast_cli.watching import shown, watch_option

if TYPE_CHECKING:
    from holdfast_ledger.views import Approval

FIELDS = {
    "session_id": "the session that waits",
    "agent": "its agent",
    "call": "TURN.INDEX",
    "tool": "the tool",
    "tier": "its risk",
    "digest": "names the exact arguments; a decision holds for these alone",
    "preview": "the redacted arguments",
    "asked_at": "since when it waits",
    "expires_at": "until when a person may decide",
    "state": "pending, approved, denied, expired or consumed",
    "decided_by": "who decided; null while it waits",
    "decided_at": "when",
    "authenticated": "whether the name was proved; null while it waits",
    "reason": "why, in the decider's words",
    "approve": "the command that allows it; null once it is decided",
    "signal": "the same with Temporal's own command",
}


@click.group("approval", cls=Group)
def approval() -> None:
    """List what waits for a person."""


@command(
    "list",
    examples=(
        "holdfast approval list",
        "holdfast approval list --session 0198a7c2 --all",
        "holdfast approval list --json",
    ),
    fields=FIELDS,
)
@click.option("--session", metavar="SESSION", help="Only this session's.")
@click.option("--all", "everything", is_flag=True, help="Also what was decided.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@watch_option
@pass_app
def list_approvals(app: App, session: str | None, everything: bool, limit: int, watch: bool) -> int:
    """List the calls that wait for a person, oldest first: the tool, its arguments, and how to decide.

    A decision is bound to the call and its exact arguments. The signal line does the same with nothing but
    Temporal's own command; its sender is recorded as unauthenticated.
    """

    noted: set[str] = set()

    async def read() -> list[Approval]:
        async with app.ledger() as ledger:
            session_id = await find_session(ledger, session) if session else None
            listed = await reader_of(ledger).approvals(session_id=session_id, pending=not everything, limit=limit)
            new = {each.session_id for each in listed} - noted
            await note_reading(ledger, new, "approval list")
            noted.update(new)
            return listed

    return shown(app, lambda: show(app, app.run(read())), watch=watch)


def show(app: App, found: list[Approval]) -> None:
    rows = [record(app, each) for each in found]
    if app.out.machine or app.out.quiet:
        app.out.rows(rows, {"call": "call"}, empty="")
    elif not found:
        click.echo("Nothing waits for a person.", err=True)
    else:
        click.echo("\n\n".join(text_of(app, each, row) for each, row in zip(found, rows, strict=True)))


def record(app: App, found: Approval) -> dict[str, Any]:
    pending = found.state == "pending"
    given = {name: getattr(found, name) for name in FIELDS if name not in ("approve", "signal")}
    return {
        **given,
        "approve": decide_lines(app, found.session_id, found.call)[0] if pending else None,
        "signal": signal_line(app, found.session_id, found.call, found.digest) if pending else None,
    }


def text_of(app: App, found: Approval, row: dict[str, Any]) -> str:
    head = f"{found.call} {click.style(cell(found.tool), bold=True)} ({cell(found.tier)}) in {found.session_id}"
    lines = [
        head,
        f"  arguments  {shortened(found.preview or '')}",
        f"  asked      {cell(found.asked_at)} by agent {cell(found.agent)}",
    ]
    if found.state != "pending":
        reason = f": {shortened(found.reason)}" if found.reason else ""
        by = f" by {cell(found.decided_by)}" if found.decided_by else ""
        return "\n".join([*lines, f"  {found.state:<9}  {cell(found.decided_at)}{by}{reason}"])
    if found.expires_at:
        left = found.expires_at - now()
        lines.append(f"  until      {cell(found.expires_at)}, {span(left)} from now")
    return "\n".join(
        [
            *lines,
            *(f"  {line}" for line in decide_lines(app, found.session_id, found.call)),
            f"  {row['signal']}",
        ]
    )


approval.add_command(list_approvals)
