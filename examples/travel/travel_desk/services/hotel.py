"""Hotel reservations: reading one, moving it to other nights, moving it back."""

import sqlite3
from datetime import date
from typing import Self

from pydantic import Field, model_validator

from travel_desk.services.operations import Arguments, Json, Operation, Refusal, find

RESERVATION = "SELECT * FROM reservation WHERE reservation_id = ?"
MOVE = "SELECT * FROM hotel_move WHERE id = CAST(substr(?, 5) AS INTEGER)"  # the number in MOV-12


class OneReservation(Arguments):
    reservation_id: str


class Move(Arguments):
    reservation_id: str
    check_in: date
    check_out: date

    @model_validator(mode="after")
    def _leaves_after_arriving(self) -> Self:
        if self.check_out <= self.check_in:
            raise ValueError("check_out must be after check_in")
        return self


class Revert(Arguments):
    move_id: str = Field(pattern=r"^MOV-\d+$")


def get_reservation(db: sqlite3.Connection, wanted: OneReservation) -> Json:
    return dict(find(db, RESERVATION, wanted.reservation_id, what="hotel reservation"))


def move_hotel(db: sqlite3.Connection, wanted: Move) -> Json:
    before = get_reservation(db, OneReservation(reservation_id=wanted.reservation_id))
    nights = (wanted.check_in.isoformat(), wanted.check_out.isoformat())
    number = db.execute(
        "INSERT INTO hotel_move (reservation_id, previous_check_in, previous_check_out, check_in, check_out)"
        " VALUES (?, ?, ?, ?, ?)",
        (wanted.reservation_id, before["check_in"], before["check_out"], *nights),
    ).lastrowid
    after = _set_nights(db, wanted.reservation_id, *nights)
    return {
        "move_id": f"MOV-{number}",
        **after,
        "previous_check_in": before["check_in"],
        "previous_check_out": before["check_out"],
    }


def move_hotel_back(db: sqlite3.Connection, wanted: Revert) -> Json:
    """Undo one move. Doing it twice is doing it once."""
    move = find(db, MOVE, wanted.move_id, what="hotel move")
    reservation = get_reservation(db, OneReservation(reservation_id=move["reservation_id"]))
    if move["reverted"]:
        return {"move_id": wanted.move_id, **reservation}
    if (reservation["check_in"], reservation["check_out"]) != (move["check_in"], move["check_out"]):
        raise Refusal(409, "changed_since", f"the reservation was moved again after `{wanted.move_id}`")
    db.execute("UPDATE hotel_move SET reverted = 1 WHERE id = ?", (move["id"],))
    restored = _set_nights(db, move["reservation_id"], move["previous_check_in"], move["previous_check_out"])
    return {"move_id": wanted.move_id, **restored}


def _set_nights(db: sqlite3.Connection, reservation_id: str, check_in: str, check_out: str) -> Json:
    db.execute(
        "UPDATE reservation SET check_in = ?, check_out = ? WHERE reservation_id = ?",
        (check_in, check_out, reservation_id),
    )
    return get_reservation(db, OneReservation(reservation_id=reservation_id))


OPERATIONS = (
    Operation(
        kind="get_reservation",
        method="GET",
        path="/hotel/reservations/{reservation_id}",
        arguments=OneReservation,
        run=get_reservation,
    ),
    Operation(
        kind="move_hotel",
        method="POST",
        path="/hotel/reservations/{reservation_id}/move",
        arguments=Move,
        run=move_hotel,
    ),
    Operation(
        kind="move_hotel_back",
        method="POST",
        path="/hotel/moves/{move_id}/revert",
        arguments=Revert,
        run=move_hotel_back,
    ),
)
