"""Flights and their seats: searching, holding a seat for a while, releasing it.

A held or used seat is taken from the flight's `seats_left`; whoever changes a hold's state moves that count.
"""

import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from travel_desk.services.operations import Arguments, Json, Operation, Refusal, find

HOLD_LASTS = timedelta(hours=24)

HoldId = Annotated[str, Field(pattern=r"^HLD-\d+$")]
HoldState = Literal["held", "used", "released"]


class Search(Arguments):
    origin: str
    destination: str
    date: str


class Hold(Arguments):
    flight_id: str
    booking_id: str


class Release(Arguments):
    hold_id: HoldId


def search_flights(db: sqlite3.Connection, wanted: Search) -> Json:
    rows = db.execute(
        "SELECT flight_id, departure, fare_cents, seats_left FROM flight"
        " WHERE origin = ? AND destination = ? AND date = ? ORDER BY departure",
        (wanted.origin, wanted.destination, wanted.date),
    )
    return {"flights": [dict(row) for row in rows]}


def hold_seat(db: sqlite3.Connection, wanted: Hold) -> Json:
    find(db, "SELECT 1 FROM booking WHERE booking_id = ?", wanted.booking_id, what="booking")
    now = datetime.now(UTC)
    _release_expired(db, wanted.flight_id, now)
    take(db, wanted.flight_id)
    expires_at = (now + HOLD_LASTS).isoformat()
    number = db.execute(
        "INSERT INTO hold (flight_id, booking_id, state, expires_at) VALUES (?, ?, 'held', ?)",
        (wanted.flight_id, wanted.booking_id, expires_at),
    ).lastrowid
    return {"hold_id": f"HLD-{number}", "flight_id": wanted.flight_id, "expires_at": expires_at}


def release_seat(db: sqlite3.Connection, wanted: Release) -> Json:
    """Undo a hold. Releasing it twice is releasing it once."""
    hold = find_hold(db, wanted.hold_id)
    if hold["state"] == "used":
        raise Refusal(409, "hold_used", f"a booking sits in the seat of `{wanted.hold_id}`; change it back first")
    if hold["state"] == "held":
        set_state(db, hold["id"], "released")
        give_back(db, hold["flight_id"])
    return {"hold_id": wanted.hold_id, "flight_id": hold["flight_id"], "released": True}


def find_hold(db: sqlite3.Connection, hold_id: str) -> sqlite3.Row:
    """The hold's row; raises the 404 `Refusal`."""
    return find(db, "SELECT * FROM hold WHERE id = CAST(substr(?, 5) AS INTEGER)", hold_id, what="hold")


def take(db: sqlite3.Connection, flight_id: str) -> None:
    """Take one seat of the flight; raises `Refusal` where none is left."""
    flight = find(db, "SELECT seats_left FROM flight WHERE flight_id = ?", flight_id, what="flight")
    if not flight["seats_left"]:
        raise Refusal(409, "no_seats", f"flight `{flight_id}` is full")
    db.execute("UPDATE flight SET seats_left = seats_left - 1 WHERE flight_id = ?", (flight_id,))


def give_back(db: sqlite3.Connection, flight_id: str) -> None:
    db.execute("UPDATE flight SET seats_left = seats_left + 1 WHERE flight_id = ?", (flight_id,))


def set_state(db: sqlite3.Connection, number: int, state: HoldState) -> None:
    db.execute("UPDATE hold SET state = ? WHERE id = ?", (state, number))


def _release_expired(db: sqlite3.Connection, flight_id: str, now: datetime) -> None:
    expired = db.execute(
        "UPDATE hold SET state = 'released' WHERE flight_id = ? AND state = 'held' AND expires_at <= ?",
        (flight_id, now.isoformat()),
    ).rowcount
    db.execute("UPDATE flight SET seats_left = seats_left + ? WHERE flight_id = ?", (expired, flight_id))


OPERATIONS = (
    Operation(kind="search_flights", method="GET", path="/flights", arguments=Search, run=search_flights),
    Operation(kind="hold_seat", method="POST", path="/seats/holds", arguments=Hold, run=hold_seat),
    Operation(
        kind="release_seat",
        method="POST",
        path="/seats/holds/{hold_id}/release",
        arguments=Release,
        run=release_seat,
    ),
)
