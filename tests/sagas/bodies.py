"""Sagas that ship nowhere: they make every mistake an author can make. Their tools are the travel desk's."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Literal

from pydantic import BaseModel

from holdfast import Idempotent, Never, Operator, ToolContext, tool
from holdfast_sagas import Saga, StepFailed, saga
from travel_desk.tools import hold_seat, refund, release_seat, send_mail

Mistake = Literal[
    "none",
    "raises before the pivot",
    "raises after the pivot",
    "fails a check",
    "waits",
    "swallows everything",
    "goes another way",
    "leaves a step running",
    "returns something else",
]


class Hurry(BaseModel):
    booking_id: str
    flight_id: str
    mistake: Mistake = "none"


class Hurried(BaseModel):
    hold_id: str


@saga("tests.hurried", "1", steps=hold_seat, pivot=refund, deferred=send_mail)
async def hurried(s: Saga, hurry: Hurry) -> Hurried:
    """Hold a seat, and pay something back."""
    where = {"booking_id": hurry.booking_id, "flight_id": hurry.flight_id}
    hold = await s.step("seat", hold_seat, **where)
    match hurry.mistake:
        case "raises before the pivot":
            raise TypeError("a mistake")
        case "fails a check":
            s.check("there is sunshine", False)
        case "waits":
            await asyncio.sleep(3600)
        case "swallows everything":
            try:
                s.check("there is sunshine", False)
            except Exception:
                return Hurried(hold_id=hold["hold_id"])
        case "goes another way":
            try:
                await s.step("other", hold_seat, booking_id=hurry.booking_id, flight_id="NOWHERE-0101-0000")
            except StepFailed:
                await s.step("another", hold_seat, **where)
        case "leaves a step running":
            asyncio.ensure_future(s.step("forgotten", hold_seat, **where))  # noqa: RUF006 - the mistake
            await asyncio.sleep(0)
            return Hurried(hold_id=hold["hold_id"])
        case "returns something else":
            return hold  # type: ignore[no-any-return]  # the mistake
    s.defer("mail", send_mail, to="ada@example.com", subject="Done", body="It is done.")
    await s.pivot("money", refund, booking_id=hurry.booking_id, amount_cents=100, reason="a test")
    if hurry.mistake == "raises after the pivot":
        raise TypeError("a mistake")
    return Hurried(hold_id=hold["hold_id"])


@tool(tier="irreversible", recovery=Idempotent("24h"), undo=Never("it undoes a hold itself"), service="seats")
async def release_if_held(ctx: ToolContext) -> str:
    """Give back what was held under the step's key, if anything was, and have the key refused from now on."""
    desk = os.environ["TRAVEL_DESK_URL"]
    became = (await ctx.http.post(f"{desk}/effects/{ctx.undo_key}/refuse")).raise_for_status().json()
    if became["state"] == "landed":
        (await ctx.http.post(f"{desk}/seats/holds/{became['result']['hold_id']}/release")).raise_for_status()
    return str(became["state"])


@tool(
    tier="reversible",
    recovery=Operator(),
    undo=release_seat,
    undo_args=lambda arguments, result: {"hold_id": result["hold_id"]},
    undo_if_unknown=release_if_held,
    timeout="5s",
    service="seats",
)
async def hold_blindly(ctx: ToolContext, flight_id: str, booking_id: str) -> dict[str, Any]:
    """Hold a seat at a service that, as far as this tool knows, never tells what became of it."""
    where = {"flight_id": flight_id, "booking_id": booking_id}
    answer = await ctx.http.post(f"{os.environ['TRAVEL_DESK_URL']}/seats/holds", json=where)
    held: dict[str, Any] = answer.raise_for_status().json()
    return held


@saga("tests.blind", "1", steps=(hold_seat, hold_blindly))
async def blind(s: Saga, hurry: Hurry) -> Hurried:
    """Hold two seats."""
    where = {"booking_id": hurry.booking_id, "flight_id": hurry.flight_id}
    await s.step("first", hold_seat, **where)
    hold = await s.step("second", hold_blindly, **where)
    return Hurried(hold_id=hold["hold_id"])


@tool(tier="reversible", recovery=Idempotent("24h"), undo="give_it_back")
async def take(ctx: ToolContext, what: str) -> str:
    """Take something, with an undo that is declared nowhere."""
    return what


@saga("tests.undeclared", "1", steps=take)
async def undeclared(s: Saga, hurry: Hurry) -> Hurried:
    """Take something."""
    await s.step("take", take, what="a key")
    return Hurried(hold_id="")
