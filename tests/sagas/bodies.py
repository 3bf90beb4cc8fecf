"""Sagas that ship nowhere: they make every mistake an author can make. Their tools are the travel desk's."""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import BaseModel

from holdfast_sagas import Saga, StepFailed, saga
from travel_desk.tools import hold_seat, refund, send_mail

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
