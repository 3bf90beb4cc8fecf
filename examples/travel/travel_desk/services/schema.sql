-- One file for the whole database: it is small, and every statement may run again at each start.

CREATE TABLE IF NOT EXISTS customer (
    customer_id  TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    email        TEXT NOT NULL,
    loyalty      TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS flight (
    flight_id    TEXT PRIMARY KEY,
    origin       TEXT NOT NULL,
    destination  TEXT NOT NULL,
    date         TEXT NOT NULL,          -- local day of departure, YYYY-MM-DD
    departure    TEXT NOT NULL,          -- local time, YYYY-MM-DDTHH:MM
    fare_cents   INTEGER NOT NULL,
    seats_left   INTEGER NOT NULL CHECK (seats_left >= 0)
);
CREATE INDEX IF NOT EXISTS flight_by_route ON flight (origin, destination, date, departure);

CREATE TABLE IF NOT EXISTS reservation (
    reservation_id  TEXT PRIMARY KEY,
    hotel           TEXT NOT NULL,
    check_in        TEXT NOT NULL,
    check_out       TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS booking (
    booking_id            TEXT PRIMARY KEY,
    customer_id           TEXT NOT NULL REFERENCES customer,
    flight_id             TEXT NOT NULL REFERENCES flight,
    fare_class            TEXT NOT NULL,
    paid_cents            INTEGER NOT NULL,
    status                TEXT NOT NULL,
    hotel_reservation_id  TEXT REFERENCES reservation
);

CREATE TABLE IF NOT EXISTS hold (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    flight_id   TEXT NOT NULL REFERENCES flight,
    booking_id  TEXT NOT NULL REFERENCES booking,
    state       TEXT NOT NULL CHECK (state IN ('held', 'used', 'released')),
    expires_at  TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS hold_by_flight ON hold (flight_id, state);

CREATE TABLE IF NOT EXISTS booking_change (
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    booking_id          TEXT NOT NULL REFERENCES booking,
    hold_id             INTEGER NOT NULL REFERENCES hold,
    previous_flight_id  TEXT NOT NULL REFERENCES flight,
    flight_id           TEXT NOT NULL REFERENCES flight,
    reverted            INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE IF NOT EXISTS hotel_move (
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    reservation_id      TEXT NOT NULL REFERENCES reservation,
    previous_check_in   TEXT NOT NULL,
    previous_check_out  TEXT NOT NULL,
    check_in            TEXT NOT NULL,
    check_out           TEXT NOT NULL,
    reverted            INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE IF NOT EXISTS refund (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    booking_id    TEXT NOT NULL REFERENCES booking,
    amount_cents  INTEGER NOT NULL CHECK (amount_cents > 0),
    reason        TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS refund_by_booking ON refund (booking_id);

CREATE TABLE IF NOT EXISTS charge (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    booking_id    TEXT NOT NULL REFERENCES booking,
    amount_cents  INTEGER NOT NULL CHECK (amount_cents > 0),
    reason        TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS charge_by_booking ON charge (booking_id);

CREATE TABLE IF NOT EXISTS mail (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    recipient  TEXT NOT NULL,
    subject    TEXT NOT NULL,
    body       TEXT NOT NULL
);

-- The answer each idempotency key got. A key refused before any request used it has no fingerprint.
CREATE TABLE IF NOT EXISTS effect (
    key          TEXT PRIMARY KEY,
    state        TEXT NOT NULL CHECK (state IN ('landed', 'refused')),
    fingerprint  TEXT,
    status       INTEGER,
    response     TEXT
);

CREATE TABLE IF NOT EXISTS request_log (
    seq               INTEGER PRIMARY KEY AUTOINCREMENT,
    at                TEXT NOT NULL,
    outcome           TEXT NOT NULL CHECK (outcome IN ('carried_out', 'replayed', 'refused', 'read')),
    kind              TEXT NOT NULL,
    method            TEXT NOT NULL,
    path              TEXT NOT NULL,
    status            INTEGER NOT NULL,
    who               TEXT,
    idempotency_key   TEXT,
    traceparent       TEXT,
    arguments_digest  TEXT NOT NULL,
    arguments         TEXT NOT NULL
);
-- No unique index on the key: the log must be able to show a duplicate if the key table ever let one through.
CREATE INDEX IF NOT EXISTS request_log_by_key ON request_log (idempotency_key);

CREATE TRIGGER IF NOT EXISTS request_log_no_update BEFORE UPDATE ON request_log
BEGIN SELECT RAISE(ABORT, 'the request log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS request_log_no_delete BEFORE DELETE ON request_log
BEGIN SELECT RAISE(ABORT, 'the request log is append-only'); END;
