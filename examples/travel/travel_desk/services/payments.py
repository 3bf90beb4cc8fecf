"""Payments: refunds to the means of payment a booking was paid with.

A refund is final. There is no endpoint that voids one: the money has left.
"""

import sqlite3

from pydantic import Field

from travel_desk.services.bookings import BOOKING
from travel_desk.services.operations import Arguments, Json, Operation, Refusal, find


class Refund(Arguments):
    booking_id: str
    amount_cents: int = Field(gt=0, strict=True)
    reason: str = Field(min_length=1, max_length=500)


class OfBooking(Arguments):
    booking_id: str


def refund(db: sqlite3.Connection, wanted: Refund) -> Json:
    booking = find(db, BOOKING, wanted.booking_id, what="booking")
    left = booking["paid_cents"] - _refunded(db, wanted.booking_id)
    if wanted.amount_cents > left:
        raise Refusal(
            409,
            "exceeds_payment",
            f"booking `{wanted.booking_id}` has {left} cents left to refund, not {wanted.amount_cents}",
        )
    number = db.execute(
        "INSERT INTO refund (booking_id, amount_cents, reason) VALUES (?, ?, ?)",
        (wanted.booking_id, wanted.amount_cents, wanted.reason),
    ).lastrowid
    return {"refund_id": f"RFD-{number}", "booking_id": wanted.booking_id, "amount_cents": wanted.amount_cents}


def list_refunds(db: sqlite3.Connection, wanted: OfBooking) -> Json:
    rows = db.execute(
        "SELECT 'RFD-' || id AS refund_id, booking_id, amount_cents, reason"
        " FROM refund WHERE booking_id = ? ORDER BY id",
        (wanted.booking_id,),
    )
    return {"refunds": [dict(row) for row in rows]}


def _refunded(db: sqlite3.Connection, booking_id: str) -> int:
    query = "SELECT coalesce(sum(amount_cents), 0) FROM refund WHERE booking_id = ?"
    return int(db.execute(query, (booking_id,)).fetchone()[0])


OPERATIONS = (
    Operation(kind="refund", method="POST", path="/payments/refunds", arguments=Refund, run=refund),
    Operation(kind="list_refunds", method="GET", path="/payments/refunds", arguments=OfBooking, run=list_refunds),
)
