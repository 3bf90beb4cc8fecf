"""The tools an agent of the travel desk works with: reads, steps that can be undone, and two that cannot.

Every write sends the call's idempotency key (`ctx.http` does), and the desk dedupes on it: class `Idempotent`.
Only an answer that says so is a refusal; a 5xx or a lost answer is raised as it is: the desk may have done it.
"""

import os
from typing import Annotated, Any

import httpx2
from pydantic import Field

from holdfast import Idempotent, Never, ToolContext, ToolRefused, ToolUnavailable, tool
from travel_desk import results

SEND_AGAIN_FOR = Idempotent(key_ttl="24h")
OWNER = "travel-desk"
RUNBOOK = "examples/travel/README.md"

BookingId = Annotated[str, Field(pattern=r"^[A-Z]+-\d+$", description='Booking id, e.g. "TRV-1042".')]
CustomerId = Annotated[str, Field(pattern=r"^CUS-\d+$", description='Customer id, e.g. "CUS-201".')]
FlightId = Annotated[
    str,
    Field(
        pattern=r"^[A-Z0-9-]+$",
        description='Flight id exactly as `search_flights` gave it, e.g. "LISAMS-0313-0725".',
    ),
]
HoldId = Annotated[str, Field(pattern=r"^HLD-\d+$", description='Hold id as `hold_seat` gave it, e.g. "HLD-7".')]
ChangeId = Annotated[
    str, Field(pattern=r"^CHG-\d+$", description='Change id as `change_booking` gave it, e.g. "CHG-3".')
]
ReservationId = Annotated[
    str, Field(pattern=r"^[A-Z]+(-[A-Z]+)?-\d+$", description='Hotel reservation id, e.g. "HTL-5501".')
]
MoveId = Annotated[str, Field(pattern=r"^MOV-\d+$", description='Move id as `move_hotel` gave it, e.g. "MOV-2".')]
Airport = Annotated[str, Field(pattern=r"^[A-Z]{3}$", description='IATA code of the airport, e.g. "LIS".')]
Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description='Local day, e.g. "2030-03-13".')]
Cents = Annotated[int, Field(gt=0, le=1_000_000, description="Amount in cents, e.g. 6300 for 63.00.")]
Reason = Annotated[
    str, Field(min_length=1, max_length=500, description="Why, in one sentence the customer may read.")
]
Address = Annotated[
    str,
    Field(
        pattern=r"^[^@\s]+@[^@\s]+$",
        max_length=254,
        description='The customer\'s e-mail address, e.g. "ada.moreau@example.com".',
    ),
]
Subject = Annotated[str, Field(min_length=1, max_length=200, description="Subject line, plain text.")]
Body = Annotated[str, Field(min_length=1, max_length=20_000, description="The whole mail, plain text.")]


@tool(tier="read", timeout="10s", service="bookings", owner=OWNER)
async def get_booking(ctx: ToolContext, booking_id: BookingId) -> results.Booking:
    """Look up one booking: its flight, day, fare in cents, customer and hotel reservation.

    Use it first, for every booking the request names, and again to check the outcome of a change.
    It does not list a customer's bookings and does not search by name.
    """
    booking: results.Booking = await _get(ctx, f"/bookings/{booking_id}")
    return booking


@tool(tier="read", timeout="10s", service="bookings", owner=OWNER)
async def get_customer(ctx: ToolContext, customer_id: CustomerId) -> results.Customer:
    """Look up a customer's name, e-mail address and loyalty level.

    Use it before writing to somebody; never guess an address. The id stands in the booking.
    """
    customer: results.Customer = await _get(ctx, f"/customers/{customer_id}")
    return customer


@tool(tier="read", timeout="10s", service="bookings", owner=OWNER)
async def get_fare_rules(ctx: ToolContext, booking_id: BookingId) -> results.FareRules:
    """Read what the booking's fare allows: the change fee in cents, and whether a cheaper new fare is refunded.

    Use it before any change or refund. Do not promise a refund that these rules do not give.
    """
    rules: results.FareRules = await _get(ctx, f"/bookings/{booking_id}/fare-rules")
    return rules


@tool(tier="read", timeout="10s", service="seats", owner=OWNER)
async def search_flights(ctx: ToolContext, origin: Airport, destination: Airport, date: Day) -> results.Flights:
    """List the flights of one route on one day, earliest first, with fares in cents and seats left.

    Use it once per day of interest. It covers direct flights only; an empty list means there are none.
    """
    flights: results.Flights = await _get(ctx, "/flights", origin=origin, destination=destination, date=date)
    return flights


@tool(tier="read", timeout="10s", service="hotel", owner=OWNER)
async def get_reservation(ctx: ToolContext, reservation_id: ReservationId) -> results.Reservation:
    """Look up a hotel reservation and its nights.

    Use it before `move_hotel`, to keep the number of nights. The id stands in the booking.
    """
    reservation: results.Reservation = await _get(ctx, f"/hotel/reservations/{reservation_id}")
    return reservation


@tool(
    tier="irreversible",
    recovery=SEND_AGAIN_FOR,
    undo=Never("it undoes a hold itself; the seat may be taken by the next caller"),
    service="seats",
    owner=OWNER,
    runbook=RUNBOOK,
)
async def release_seat(ctx: ToolContext, hold_id: HoldId) -> results.Released:
    """Give a held seat back. It undoes `hold_seat`; releasing a released hold changes nothing.

    Do not use it for a seat that a booking was moved into: that change must be undone first.
    """
    released: results.Released = await _post(ctx, f"/seats/holds/{hold_id}/release")
    return released


@tool(
    tier="reversible",
    recovery=SEND_AGAIN_FOR,
    undo=release_seat,
    undo_args=lambda arguments, result: {"hold_id": result["hold_id"]},
    service="seats",
    owner=OWNER,
    runbook=RUNBOOK,
)
async def hold_seat(ctx: ToolContext, flight_id: FlightId, booking_id: BookingId) -> results.Hold:
    """Hold one seat on a flight for a booking, for 24 hours.

    Use it right before `change_booking`, on a flight that `search_flights` listed with seats left.
    Do not hold seats on several flights to choose later.
    """
    hold: results.Hold = await _post(ctx, "/seats/holds", flight_id=flight_id, booking_id=booking_id)
    return hold


@tool(
    tier="irreversible",
    recovery=SEND_AGAIN_FOR,
    undo=Never("it undoes a change itself; make the change again instead"),
    service="bookings",
    owner=OWNER,
    runbook=RUNBOOK,
)
async def change_booking_back(ctx: ToolContext, change_id: ChangeId) -> results.Reverted:
    """Put a booking back on the flight it had before one change. It undoes `change_booking`.

    It is refused when the booking was changed again since, or when the old flight is full by now.
    """
    reverted: results.Reverted = await _post(ctx, f"/bookings/changes/{change_id}/revert")
    return reverted


@tool(
    tier="reversible",
    recovery=SEND_AGAIN_FOR,
    undo=change_booking_back,
    undo_args=lambda arguments, result: {"change_id": result["change_id"]},
    service="bookings",
    owner=OWNER,
    runbook=RUNBOOK,
)
async def change_booking(
    ctx: ToolContext, booking_id: BookingId, flight_id: FlightId, hold_id: HoldId
) -> results.Change:
    """Move a booking to the flight whose seat is held for it; answers with the new and the previous fare.

    Use it after `hold_seat`, with that hold's id and flight. It moves no money: a difference is refunded
    with `refund`, and the hotel is moved with `move_hotel`.
    """
    change: results.Change = await _post(
        ctx, f"/bookings/{booking_id}/change", flight_id=flight_id, hold_id=hold_id
    )
    return change


@tool(
    tier="irreversible",
    recovery=SEND_AGAIN_FOR,
    undo=Never("it undoes a move itself; move the reservation again instead"),
    service="hotel",
    owner=OWNER,
    runbook=RUNBOOK,
)
async def move_hotel_back(ctx: ToolContext, move_id: MoveId) -> results.MovedBack:
    """Put a hotel reservation back on the nights it had before one move. It undoes `move_hotel`.

    It is refused when the reservation was moved again since.
    """
    moved: results.MovedBack = await _post(ctx, f"/hotel/moves/{move_id}/revert")
    return moved


@tool(
    tier="reversible",
    recovery=SEND_AGAIN_FOR,
    undo=move_hotel_back,
    undo_args=lambda arguments, result: {"move_id": result["move_id"]},
    service="hotel",
    owner=OWNER,
    runbook=RUNBOOK,
)
async def move_hotel(
    ctx: ToolContext, reservation_id: ReservationId, check_in: Day, check_out: Day
) -> results.Move:
    """Move a hotel reservation to other nights, e.g. from "2030-03-13" to "2030-03-15".

    Use it when a flight moved to another day and the booking has a hotel reservation. Keep the number of
    nights unless the customer asked for another. It cannot change the hotel.
    """
    move: results.Move = await _post(
        ctx, f"/hotel/reservations/{reservation_id}/move", check_in=check_in, check_out=check_out
    )
    return move


@tool(
    tier="irreversible",
    recovery=SEND_AGAIN_FOR,
    undo=Never("payments are final: the money has left"),
    service="payments",
    owner=OWNER,
    runbook=RUNBOOK,
)
async def refund(ctx: ToolContext, booking_id: BookingId, amount_cents: Cents, reason: Reason) -> results.Refund:
    """Pay money back to the means of payment of a booking. It is final, and a person approves it first.

    Use it once, after the booking was changed, with the exact difference: previous fare minus new fare,
    minus the change fee. Do not split a refund, and do not use it as a gesture of goodwill.
    """
    refunded: results.Refund = await _post(
        ctx, "/payments/refunds", booking_id=booking_id, amount_cents=amount_cents, reason=reason
    )
    return refunded


@tool(
    tier="irreversible",
    recovery=SEND_AGAIN_FOR,
    undo=Never("payments are final: the customer was charged"),
    service="payments",
    owner=OWNER,
    runbook=RUNBOOK,
)
async def charge(ctx: ToolContext, booking_id: BookingId, amount_cents: Cents, reason: Reason) -> results.Charge:
    """Charge the means of payment of a booking. It is final, and a person approves it first.

    Use it once, after the booking was changed, with the exact difference: new fare minus previous fare, plus the
    change fee, and only where the customer agreed to pay it.
    """
    charged: results.Charge = await _post(
        ctx, "/payments/charges", booking_id=booking_id, amount_cents=amount_cents, reason=reason
    )
    return charged


@tool(
    tier="irreversible",
    recovery=SEND_AGAIN_FOR,
    undo=Never("a mail that was sent stays sent"),
    service="mail",
    owner=OWNER,
    runbook=RUNBOOK,
)
async def send_mail(ctx: ToolContext, to: Address, subject: Subject, body: Body) -> results.Mail:
    """Send one plain-text mail to a customer.

    Use it last, once per request, to tell what was done: the new departure, the amount refunded, the hotel nights.
    Do not announce what has not happened yet, and take the address from `get_customer`.
    """
    mail: results.Mail = await _post(ctx, "/mail/messages", to=to, subject=subject, body=body)
    return mail


async def _get(ctx: ToolContext, path: str, **query: str) -> Any:
    return _answer(await ctx.http.get(_desk() + path, params=query, headers=_for_whom(ctx)))


async def _post(ctx: ToolContext, path: str, **body: Any) -> Any:
    return _answer(await ctx.http.post(_desk() + path, json=body, headers=_for_whom(ctx)))


def _desk() -> str:
    """Address of the desk's services; raises `ToolRefused` where nobody configured it."""
    url = os.environ.get("TRAVEL_DESK_URL")
    if not url:
        raise ToolRefused("the worker has no TRAVEL_DESK_URL, so the travel desk cannot be reached; tell the user")
    return url.rstrip("/")


def _for_whom(ctx: ToolContext) -> dict[str, str]:
    return {"X-On-Behalf-Of": ctx.on_behalf_of or ctx.requested_by}


def _answer(response: httpx2.Response) -> Any:
    """The body of a success.

    Raises:
        ToolRefused: the desk said no; nothing happened.
        ToolUnavailable: too many requests; nothing happened yet.
        httpx2.HTTPStatusError: it may have happened, and the tool's class decides what to do.
    """
    if response.is_success:
        return response.json()
    if response.status_code == 429:
        raise ToolUnavailable(f"the desk answers {_complaint(response)}")
    if response.is_client_error and not _is_under_way(response):
        raise ToolRefused(_complaint(response))
    return response.raise_for_status()


def _is_under_way(response: httpx2.Response) -> bool:
    """An earlier attempt with our key still runs: the opposite of "nothing happened"."""
    return response.status_code == 409 and _error(response).get("code") == "key_in_flight"


def _complaint(response: httpx2.Response) -> str:
    return str(_error(response).get("message") or f"{response.status_code} {response.reason_phrase}")


def _error(response: httpx2.Response) -> dict[str, Any]:
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}
