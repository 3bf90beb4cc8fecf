"""The chaos agent's tools: one of every recovery class. Each write carries its intent, by which the log is judged.

An intent is carried out once whatever its key was, so it tells a duplicate that the keys would hide.
"""

from __future__ import annotations

import os
from importlib.resources import files
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from holdfast import Idempotent, Never, Operator, Probe, ToolContext, ToolRefused, tool
from holdfast.recovery import DidNotHappen, Inconclusive, Landed, Transactional
from holdfast_workers.chaos.services import UNDO_OF

TIMEOUT = "8s"
ATTEMPTS = 60
"""More than a storm can use up: here an effect ends by what became of it, not by its budget."""
FINAL = Never("it cannot be taken back")

Booking = Annotated[str, Field(pattern=r"^LOAD-\d+$", description='Booking id, e.g. "LOAD-17".')]
Intent = Annotated[
    str, Field(pattern=r"^[\w-]{1,60}$", description='What this is for, named once, e.g. "S-17-3-notice".')
]


class Done(TypedDict):
    """What a write answers: whose effect it was, and what the service called it."""

    effect: str
    made: str


@tool(tier="read", timeout=TIMEOUT, attempts=ATTEMPTS, service="bookings")
async def look_up(ctx: ToolContext, booking_id: Booking) -> dict[str, Any]:
    """Look up one booking."""
    answer = await ctx.http.get(f"{_desk()}/bookings/{booking_id}")
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


@tool(
    tier="irreversible",
    recovery=Idempotent(key_ttl="24h"),
    undo=FINAL,
    timeout=TIMEOUT,
    attempts=ATTEMPTS,
    service="mail",
)
async def send_notice(ctx: ToolContext, intent: Intent) -> Done:
    """Send a notice. The service dedupes on the key."""
    answer = await ctx.http.post(f"{_desk()}/mail/messages", json=_mail(ctx, intent))
    answer.raise_for_status()
    return Done(effect=ctx.idempotency_key, made=answer.json()["mail_id"])


async def ask_desk(ctx: ToolContext, booking_id: str, intent: str) -> Landed | DidNotHappen | Inconclusive:
    """Whether the refund was paid; if not, the desk is told to refuse its key from now on."""
    answer = await ctx.http.post(f"{_desk()}/effects/{ctx.idempotency_key}/refuse")
    answer.raise_for_status()
    said = answer.json()
    if said["state"] == "landed":
        made = said["result"].get("refund_id") or said["result"]["charge_id"]
        return Landed(Done(effect=ctx.idempotency_key, made=made))
    return DidNotHappen(final=True)


@tool(
    tier="irreversible",
    recovery=Probe(ask_desk),
    undo=FINAL,
    timeout=TIMEOUT,
    attempts=ATTEMPTS,
    service="payments",
)
async def pay_refund(ctx: ToolContext, booking_id: Booking, intent: Intent) -> Done:
    """Pay one euro back. The service tells what became of a key."""
    return await _pay(ctx, "refunds", booking_id, intent)


@tool(tier="irreversible", recovery=Operator(), undo=FINAL, timeout=TIMEOUT, attempts=ATTEMPTS, service="mail")
async def post_letter(ctx: ToolContext, intent: Intent) -> Done:
    """Post a letter. The service knows no keys: what is sent twice is delivered twice."""
    request = ctx.http.build_request("POST", f"{_desk()}/mail/messages", json=_mail(ctx, intent))
    del request.headers["Idempotency-Key"]
    answer = await ctx.http.send(request)
    answer.raise_for_status()
    return Done(effect=ctx.idempotency_key, made=answer.json()["mail_id"])


@tool(
    tier="irreversible",
    recovery=Idempotent(key_ttl="24h"),
    undo=FINAL,
    timeout=TIMEOUT,
    attempts=ATTEMPTS,
    service="payments",
)
async def give_back(ctx: ToolContext, booking_id: Booking, intent: Intent) -> Done:
    """Take a reservation back. Its key names the reservation."""
    return await _pay(ctx, "refunds", booking_id, f"{UNDO_OF}{intent}")


@tool(
    tier="reversible",
    recovery=Idempotent(key_ttl="24h"),
    undo=give_back,
    timeout=TIMEOUT,
    attempts=ATTEMPTS,
    service="payments",
)
async def reserve(ctx: ToolContext, booking_id: Booking, intent: Intent) -> Done:
    """Reserve something for one euro. The service dedupes on the key."""
    return await _pay(ctx, "charges", booking_id, intent)


@tool(
    tier="reversible",
    recovery=Probe(ask_desk),
    undo=give_back,
    timeout=TIMEOUT,
    attempts=ATTEMPTS,
    service="payments",
)
async def reserve_asked(ctx: ToolContext, booking_id: Booking, intent: Intent) -> Done:
    """Reserve something for one euro. The service tells what became of a key."""
    return await _pay(ctx, "charges", booking_id, intent)


@tool(
    tier="reversible",
    recovery=Operator(),
    undo=give_back,
    timeout=TIMEOUT,
    attempts=ATTEMPTS,
    service="payments",
)
async def reserve_blindly(ctx: ToolContext, booking_id: Booking, intent: Intent) -> Done:
    """Reserve something for one euro. The service knows no keys: what is sent twice is reserved twice."""
    return await _pay(ctx, "charges", booking_id, intent, keyless=True)


@tool(
    tier="irreversible",
    recovery=Transactional(),
    undo=FINAL,
    timeout=TIMEOUT,
    attempts=ATTEMPTS,
    service="notes",
)
async def keep_note(ctx: ToolContext, intent: Intent) -> Done:
    """Write a note into a table beside the ledger, in the ledger's own transaction."""
    statement = files(__package__).joinpath("sql/add_note.sql").read_text()
    number = await ctx.transaction.fetchval(statement, intent, ctx.idempotency_key)
    return Done(effect=ctx.idempotency_key, made=f"NOTE-{number}")


async def _pay(ctx: ToolContext, what: str, booking_id: str, reason: str, *, keyless: bool = False) -> Done:
    """Move one euro: `charges` or `refunds`."""
    asked = {"booking_id": booking_id, "amount_cents": 100, "reason": f"{reason} {ctx.idempotency_key}"}
    request = ctx.http.build_request("POST", f"{_desk()}/payments/{what}", json=asked)
    if keyless:
        del request.headers["Idempotency-Key"]
    answer = await ctx.http.send(request)
    answer.raise_for_status()
    return Done(effect=ctx.idempotency_key, made=answer.json()[f"{what.removesuffix('s')}_id"])


def _mail(ctx: ToolContext, intent: str) -> dict[str, str]:
    return {"to": "chaos@example.com", "subject": intent, "body": ctx.idempotency_key}


def _desk() -> str:
    url = os.environ.get("TRAVEL_DESK_URL")
    if not url:
        raise ToolRefused("the worker has no TRAVEL_DESK_URL, so the travel desk cannot be reached; tell the user")
    return url
