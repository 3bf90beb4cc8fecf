"""Two things the desk does whole or not at all: moving a trip, and holding the seats of a party.

A body reads like the plan a clerk would make. What undoes a step stands at its tool, in `travel_desk.tools`.
"""

from datetime import date, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from holdfast_sagas import Saga, StepOptions, saga
from travel_desk.tools import (
    BookingId,
    Day,
    FlightId,
    change_booking,
    charge,
    get_booking,
    get_customer,
    get_fare_rules,
    get_reservation,
    hold_seat,
    move_hotel,
    refund,
    search_flights,
    send_mail,
)

SOON = StepOptions(timeout="5s", attempts=3)
"""Somebody waits at the desk: asked again soon under the same key, and given up soon."""


class Rebooking(BaseModel):
    """Move a booking, and the hotel with it, to the cheapest flight of another day."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    booking_id: BookingId
    date: Day
    at_most_cents: int = Field(default=0, ge=0, le=1_000_000)
    """How much more the customer agreed to pay."""


class Rebooked(BaseModel):
    flight_id: str
    departure: str
    paid_back_cents: int
    """Below zero: charged."""


class Party(BaseModel):
    """Hold a seat on one flight for each of several bookings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flight_id: FlightId
    booking_ids: tuple[BookingId, ...] = Field(min_length=1, max_length=20)


class PartyHeld(BaseModel):
    holds: dict[str, str]
    """Hold id by booking id."""


@saga(
    "travel.rebook",
    "1",
    steps=(
        get_booking,
        get_customer,
        get_fare_rules,
        get_reservation,
        search_flights,
        hold_seat,
        change_booking,
        move_hotel,
    ),
    pivot=(charge, refund),
    deferred=send_mail,
)
async def rebook(s: Saga, trip: Rebooking) -> Rebooked:
    """Move a trip to another day: seat, booking and hotel; then the money, which is final; then a mail."""
    booking = await s.step("booking", get_booking, booking_id=trip.booking_id)
    rules, customer, found = await s.gather(
        s.step("rules", get_fare_rules, booking_id=trip.booking_id),
        s.step("customer", get_customer, customer_id=booking["customer_id"]),
        s.step(
            "flights",
            search_flights,
            origin=booking["origin"],
            destination=booking["destination"],
            date=trip.date,
        ),
    )
    free = [flight for flight in found["flights"] if flight["seats_left"]]
    s.check(f"there is a flight with a free seat on {trip.date}", bool(free))
    flight = min(free, key=lambda each: (each["fare_cents"], each["departure"]))

    hold = await s.step("seat", hold_seat, SOON, flight_id=flight["flight_id"], booking_id=trip.booking_id)
    changed = await s.step(
        "change",
        change_booking,
        SOON,
        booking_id=trip.booking_id,
        flight_id=flight["flight_id"],
        hold_id=hold["hold_id"],
    )
    if booking["hotel_reservation_id"]:
        nights = await s.step("nights", get_reservation, reservation_id=booking["hotel_reservation_id"])
        await s.step(
            "hotel",
            move_hotel,
            SOON,
            reservation_id=booking["hotel_reservation_id"],
            **_moved(nights, date.fromisoformat(trip.date) - date.fromisoformat(booking["date"])),
        )

    due = changed["fare_cents"] + rules["change_fee_cents"] - changed["previous_fare_cents"]
    s.check(f"the customer pays at most {trip.at_most_cents} cents more", due <= trip.at_most_cents)
    reason = f"Moved to {flight['departure']}."
    if due > 0:
        await s.pivot("money", charge, SOON, booking_id=trip.booking_id, amount_cents=due, reason=reason)
    elif due < 0 and rules["refunds_fare_difference"]:
        await s.pivot("money", refund, SOON, booking_id=trip.booking_id, amount_cents=-due, reason=reason)
    else:
        due = 0
    s.defer("mail", send_mail, SOON, to=customer["email"], subject="Your trip was moved", body=_mail(flight, due))
    return Rebooked(flight_id=flight["flight_id"], departure=flight["departure"], paid_back_cents=-due)


@saga("travel.hold_party", "1", steps=hold_seat)
async def hold_party(s: Saga, party: Party) -> PartyHeld:
    """Hold a seat for everybody of a party, at once; nobody has one where somebody cannot."""
    holds = await s.gather(
        *(
            s.step(f"seat-{number}", hold_seat, SOON, flight_id=party.flight_id, booking_id=booking)
            for number, booking in enumerate(party.booking_ids, start=1)
        )
    )
    return PartyHeld(
        holds={booking: hold["hold_id"] for booking, hold in zip(party.booking_ids, holds, strict=True)}
    )


def _moved(nights: Any, by: timedelta) -> dict[str, str]:
    return {name: (date.fromisoformat(nights[name]) + by).isoformat() for name in ("check_in", "check_out")}


def _mail(flight: Any, due: int) -> str:
    money = f"{abs(due) / 100:.2f} was {'charged' if due > 0 else 'paid back'}." if due else "It cost nothing."
    return f"You fly on {flight['departure']}. {money}"
