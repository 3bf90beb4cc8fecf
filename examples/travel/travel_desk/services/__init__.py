"""Bookings, seats, hotel, payments and mail: one HTTP process with its own database.

Must stay true: an idempotency key is carried out at most once, also across a crash; the request log is
append-only and written in the same transaction as the effect, so it can serve as the oracle of a crash test.
Run it with `python -m travel_desk.services --port 8085 --data DIR`.
"""
