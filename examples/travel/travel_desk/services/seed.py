"""What the desk knows before anyone works with it: a few customers and bookings, two weeks of flights.

The dates are fixed, so that a run can be repeated and compared. TRV-1042 flies on the evening of its day;
the flight of every next morning costs 63.00 less, so that moving it leaves a difference to refund.
"""

import sqlite3
from datetime import date, timedelta

FIRST_DAY = date(2030, 3, 12)
DAYS = 14
ROUTES = (("LIS", "AMS"), ("AMS", "LIS"), ("BER", "VIE"), ("VIE", "BER"))
TIMES = (("07:25", -6300), ("12:10", -2100), ("17:45", 0))  # departure, cents on top of the base fare
BASE_FARE_CENTS = 31_200
SEATS = 24
LOAD_ROUTE = ("OSL", "MAD")
LOAD_SEATS = 10_000_000

CUSTOMERS = (
    ("CUS-201", "Ada Moreau", "ada.moreau@example.com", "gold"),
    ("CUS-202", "Bruno Keller", "bruno.keller@example.com", "none"),
    ("CUS-203", "Chiara Rossi", "chiara.rossi@example.com", "silver"),
)
RESERVATIONS = (
    ("HTL-5501", "Hotel Amstel Kade", "2030-03-12", "2030-03-14"),
    ("HTL-5502", "Pension Josefstadt", "2030-03-13", "2030-03-16"),
    ("HTL-5503", "Casa do Tejo", "2030-03-15", "2030-03-18"),
)
BOOKINGS = (  # booking, customer, route, day (0 = FIRST_DAY), departure, fare class, reservation
    ("TRV-1042", "CUS-201", ("LIS", "AMS"), 0, "17:45", "flex", "HTL-5501"),
    ("TRV-1043", "CUS-202", ("BER", "VIE"), 1, "12:10", "flex", "HTL-5502"),
    ("TRV-1044", "CUS-203", ("AMS", "LIS"), 3, "07:25", "saver", "HTL-5503"),
    ("TRV-1045", "CUS-201", ("AMS", "LIS"), 2, "17:45", "flex", None),
    ("TRV-1046", "CUS-202", ("VIE", "BER"), 4, "17:45", "saver", None),
    ("TRV-1047", "CUS-203", ("LIS", "AMS"), 6, "12:10", "flex", None),
)


def plant(db: sqlite3.Connection) -> None:
    """Add what is missing of the seed; what exists stays as it is."""
    for origin, destination in ROUTES:
        for day in range(DAYS):
            for departure, extra in TIMES:
                _add_flight(db, (origin, destination), day, departure, BASE_FARE_CENTS + extra, SEATS)
    db.executemany("INSERT OR IGNORE INTO customer VALUES (?, ?, ?, ?)", CUSTOMERS)
    db.executemany("INSERT OR IGNORE INTO reservation VALUES (?, ?, ?, ?)", RESERVATIONS)
    for booking, customer, route, day, departure, fare_class, reservation in BOOKINGS:
        db.execute(
            "INSERT OR IGNORE INTO booking SELECT ?, ?, flight_id, ?, fare_cents, 'confirmed', ?"
            " FROM flight WHERE flight_id = ?",
            (booking, customer, fare_class, reservation, _flight_id(route, day, departure)),
        )


def restore(db: sqlite3.Connection) -> None:
    """Put the seed back as it was, so that a demo can run again. Keys and the request log stay."""
    for table in (
        "mail",
        "charge",
        "refund",
        "hotel_move",
        "booking_change",
        "hold",
        "booking",
        "reservation",
        "flight",
    ):
        db.execute(f"DELETE FROM {table}")
    plant(db)


def add_bookings(db: sqlite3.Connection, count: int) -> list[str]:
    """Add `count` bookings for load tests, each with its own reservation, and flights with room for all."""
    for day in range(DAYS):
        for departure, extra in TIMES:
            _add_flight(db, LOAD_ROUTE, day, departure, BASE_FARE_CENTS + extra, LOAD_SEATS)
    flight = _flight_id(LOAD_ROUTE, 0, "17:45")
    taken = db.execute("SELECT count(*) FROM booking WHERE booking_id LIKE 'LOAD-%'").fetchone()[0]
    numbers = range(taken + 1, taken + count + 1)
    db.executemany(
        "INSERT INTO reservation VALUES (?, 'Hotel Gran Via', '2030-03-12', '2030-03-14')",
        [(f"LOAD-HTL-{number}",) for number in numbers],
    )
    db.executemany(
        "INSERT INTO booking VALUES (?, 'CUS-201', ?, 'flex', ?, 'confirmed', ?)",
        [(f"LOAD-{number}", flight, BASE_FARE_CENTS, f"LOAD-HTL-{number}") for number in numbers],
    )
    return [f"LOAD-{number}" for number in numbers]


def _add_flight(
    db: sqlite3.Connection, route: tuple[str, str], day: int, departure: str, fare_cents: int, seats: int
) -> None:
    on = (FIRST_DAY + timedelta(days=day)).isoformat()
    db.execute(
        "INSERT OR IGNORE INTO flight VALUES (?, ?, ?, ?, ?, ?, ?)",
        (_flight_id(route, day, departure), *route, on, f"{on}T{departure}", fare_cents, seats),
    )


def _flight_id(route: tuple[str, str], day: int, departure: str) -> str:
    """For example `LISAMS-0313-0725`."""
    on = FIRST_DAY + timedelta(days=day)
    return f"{''.join(route)}-{on:%m%d}-{departure.replace(':', '')}"
