"""Payments: refunds to the means of payment a booking was paid with, and charges on it.

Both are final. There is no endpoint that voids one: the money has moved.
"""

import sqlite3
from typing import Literal

from pydantic import Field

from travel_desk.services.bookings import BOOKING
from travel_desk.services.operations import Arguments, Json, Operation, Refusal, find


class Payment(Arguments):
    booking_id: str
    amount_cents: int = Field(gt=0, strict=True)
    reason: str = Field(min_length=1, max_length=500)


class OfBooking(Arguments):
    booking_id: str


def refund(db: sqlite3.Connection, wanted: Payment) -> Json:
    booking = find(db, BOOKING, wanted.booking_id, what="booking")
    left = booking["paid_cents"] + _moved(db, "charge", wanted) - _moved(db, "refund", wanted)
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


def charge(db: sqlite3.Connection, wanted: Payment) -> Json:
    find(db, BOOKING, wanted.booking_id, what="booking")
    number = db.execute(
        "INSERT INTO charge (booking_id, amount_cents, reason) VALUES (?, ?, ?)",
        (wanted.booking_id, wanted.amount_cents, wanted.reason),
    ).lastrowid
    return {"charge_id": f"CRG-{number}", "booking_id": wanted.booking_id, "amount_cents": wanted.amount_cents}


def list_refunds(db: sqlite3.Connection, wanted: OfBooking) -> Json:
    rows = db.execute(
        "SELECT 'RFD-' || id AS refund_id, booking_id, amount_cents, reason"
        " FROM refund WHERE booking_id = ? ORDER BY id",
        (wanted.booking_id,),
    )
    return {"refunds": [dict(row) for row in rows]}


def _moved(db: sqlite3.Connection, table: Literal["charge", "refund"], wanted: Payment) -> int:
    query = f"SELECT coalesce(sum(amount_cents), 0) FROM {table} WHERE booking_id = ?"
    return int(db.execute(query, (wanted.booking_id,)).fetchone()[0])


OPERATIONS = (
    Operation(kind="refund", method="POST", path="/payments/refunds", arguments=Payment, run=refund),
    Operation(kind="charge", method="POST", path="/payments/charges", arguments=Payment, run=charge),
    Operation(kind="list_refunds", method="GET", path="/payments/refunds", arguments=OfBooking, run=list_refunds),
)
