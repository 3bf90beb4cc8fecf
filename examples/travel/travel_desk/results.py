"""What the desk's tools answer: plain dictionaries, in the very shape that the model reads.

Times are local, `YYYY-MM-DDTHH:MM`; days are `YYYY-MM-DD`; money is in cents.
"""

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12


class Booking(TypedDict):
    booking_id: str
    customer_id: str
    flight_id: str
    origin: str
    destination: str
    date: str
    departure: str
    fare_cents: int
    status: str
    hotel_reservation_id: str | None


class Customer(TypedDict):
    customer_id: str
    name: str
    email: str
    loyalty: str


class FareRules(TypedDict):
    booking_id: str
    fare_class: str
    change_fee_cents: int
    refunds_fare_difference: bool
    rules: str


class Flight(TypedDict):
    flight_id: str
    departure: str
    fare_cents: int
    seats_left: int


class Flights(TypedDict):
    flights: list[Flight]


class Reservation(TypedDict):
    reservation_id: str
    hotel: str
    check_in: str
    check_out: str


class Hold(TypedDict):
    hold_id: str
    flight_id: str
    expires_at: str


class Released(TypedDict):
    hold_id: str
    flight_id: str
    released: bool


class Reverted(Booking):
    change_id: str


class Change(Reverted):
    previous_flight_id: str
    previous_fare_cents: int


class MovedBack(Reservation):
    move_id: str


class Move(MovedBack):
    previous_check_in: str
    previous_check_out: str


class Refund(TypedDict):
    refund_id: str
    booking_id: str
    amount_cents: int


class Charge(TypedDict):
    charge_id: str
    booking_id: str
    amount_cents: int


class Mail(TypedDict):
    mail_id: str
