"""Bookings and their customers: reading them, moving one to another flight, and moving it back."""

import sqlite3
from datetime import UTC, datetime

from pydantic import Field

from travel_desk.services import seats
from travel_desk.services.operations import Arguments, Json, Operation, Refusal, find

BOOKING = """
    SELECT booking_id, customer_id, flight_id, origin, destination, date, departure, fare_cents, status,
           hotel_reservation_id, fare_class, paid_cents
      FROM booking JOIN flight USING (flight_id) WHERE booking_id = ?
"""
CHANGE = "SELECT * FROM booking_change WHERE id = CAST(substr(?, 5) AS INTEGER)"  # the number in CHG-12
FARE_RULES = {
    "flex": "Changes are free. A cheaper new fare is refunded in full, to the original means of payment.",
    "saver": "No refund of a fare difference. Changes are possible up to one hour before departure.",
}
NOT_SHOWN = ("fare_class", "paid_cents")


class OneBooking(Arguments):
    booking_id: str


class OneCustomer(Arguments):
    customer_id: str


class Change(Arguments):
    booking_id: str
    flight_id: str
    hold_id: seats.HoldId


class Revert(Arguments):
    change_id: str = Field(pattern=r"^CHG-\d+$")


def get_booking(db: sqlite3.Connection, wanted: OneBooking) -> Json:
    booking = dict(find(db, BOOKING, wanted.booking_id, what="booking"))
    return {name: value for name, value in booking.items() if name not in NOT_SHOWN}


def get_customer(db: sqlite3.Connection, wanted: OneCustomer) -> Json:
    return dict(find(db, "SELECT * FROM customer WHERE customer_id = ?", wanted.customer_id, what="customer"))


def get_fare_rules(db: sqlite3.Connection, wanted: OneBooking) -> Json:
    booking = find(db, BOOKING, wanted.booking_id, what="booking")
    return {
        "booking_id": wanted.booking_id,
        "fare_class": booking["fare_class"],
        "change_fee_cents": 0,
        "refunds_fare_difference": booking["fare_class"] == "flex",
        "rules": FARE_RULES[booking["fare_class"]],
    }


def change_booking(db: sqlite3.Connection, wanted: Change) -> Json:
    """Move the booking into the held seat; its old seat is free again."""
    booking = find(db, BOOKING, wanted.booking_id, what="booking")
    hold = seats.find_hold(db, wanted.hold_id)
    if (hold["booking_id"], hold["flight_id"]) != (wanted.booking_id, wanted.flight_id):
        raise Refusal(409, "wrong_hold", f"hold `{wanted.hold_id}` is for another booking or flight")
    if hold["state"] != "held" or hold["expires_at"] <= datetime.now(UTC).isoformat():
        raise Refusal(
            409, "hold_gone", f"hold `{wanted.hold_id}` was used, released or has expired; hold a seat again"
        )

    previous = booking["flight_id"]
    seats.set_state(db, hold["id"], "used")
    seats.give_back(db, previous)
    _put_on(db, wanted.booking_id, wanted.flight_id)
    change = db.execute(
        "INSERT INTO booking_change (booking_id, hold_id, previous_flight_id, flight_id) VALUES (?, ?, ?, ?)",
        (wanted.booking_id, hold["id"], previous, wanted.flight_id),
    ).lastrowid
    return {
        "change_id": f"CHG-{change}",
        **get_booking(db, OneBooking(booking_id=wanted.booking_id)),
        "previous_flight_id": previous,
        "previous_fare_cents": booking["fare_cents"],
    }


def change_booking_back(db: sqlite3.Connection, wanted: Revert) -> Json:
    """Undo one change; the new seat is held again, as before it. Doing it twice is doing it once."""
    change = find(db, CHANGE, wanted.change_id, what="booking change")
    if not change["reverted"]:
        booking = find(db, BOOKING, change["booking_id"], what="booking")
        if booking["flight_id"] != change["flight_id"]:
            raise Refusal(409, "changed_since", f"the booking was changed again after `{wanted.change_id}`")
        seats.take(db, change["previous_flight_id"])
        seats.set_state(db, change["hold_id"], "held")
        _put_on(db, change["booking_id"], change["previous_flight_id"])
        db.execute("UPDATE booking_change SET reverted = 1 WHERE id = ?", (change["id"],))
    return {"change_id": wanted.change_id, **get_booking(db, OneBooking(booking_id=change["booking_id"]))}


def _put_on(db: sqlite3.Connection, booking_id: str, flight_id: str) -> None:
    db.execute("UPDATE booking SET flight_id = ? WHERE booking_id = ?", (flight_id, booking_id))


OPERATIONS = (
    Operation(
        kind="get_booking", method="GET", path="/bookings/{booking_id}", arguments=OneBooking, run=get_booking
    ),
    Operation(
        kind="get_fare_rules",
        method="GET",
        path="/bookings/{booking_id}/fare-rules",
        arguments=OneBooking,
        run=get_fare_rules,
    ),
    Operation(
        kind="get_customer", method="GET", path="/customers/{customer_id}", arguments=OneCustomer, run=get_customer
    ),
    Operation(
        kind="change_booking",
        method="POST",
        path="/bookings/{booking_id}/change",
        arguments=Change,
        run=change_booking,
    ),
    Operation(
        kind="change_booking_back",
        method="POST",
        path="/bookings/changes/{change_id}/revert",
        arguments=Revert,
        run=change_booking_back,
    ),
)
