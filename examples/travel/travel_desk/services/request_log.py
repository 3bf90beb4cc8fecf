"""The append-only log of every request that was carried out, repeated, refused or read.

It is written in the transaction of what it reports, and counts duplicates from the entries alone: it does
not trust the key table it is there to check.
"""

import json
import sqlite3
from datetime import UTC, datetime
from typing import Literal

from travel_desk.services.operations import Json, Request

Outcome = Literal["carried_out", "replayed", "refused", "read"]

COUNTS = """
    SELECT kind,
           sum(outcome = 'carried_out') AS carried_out,
           sum(outcome = 'replayed') AS replayed,
           sum(outcome = 'refused') AS refused,
           sum(outcome = 'read') AS read
      FROM request_log WHERE seq > ? GROUP BY kind ORDER BY kind
"""
DUPLICATES = """
    SELECT kind, idempotency_key, count(*) AS times
      FROM request_log WHERE seq > ? AND outcome = 'carried_out' AND idempotency_key IS NOT NULL
     GROUP BY idempotency_key HAVING count(*) > 1 ORDER BY min(seq)
"""
SAME_ARGUMENTS = """
    SELECT kind, arguments_digest, count(*) AS times, json_group_array(idempotency_key) AS idempotency_keys
      FROM request_log WHERE seq > ? AND outcome = 'carried_out'
     GROUP BY kind, arguments_digest
    HAVING count(*) > 1 AND (count(DISTINCT idempotency_key) > 1 OR count(*) > count(idempotency_key))
     ORDER BY min(seq)
"""


def append(db: sqlite3.Connection, request: Request, outcome: Outcome, status: int) -> None:
    db.execute(
        "INSERT INTO request_log (at, outcome, kind, method, path, status, who, idempotency_key, traceparent,"
        " arguments_digest, arguments) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            datetime.now(UTC).isoformat(),
            outcome,
            request.operation.kind,
            request.operation.method,
            request.path,
            status,
            request.who,
            request.key,
            request.traceparent,
            request.arguments_digest,
            request.canonical_arguments,
        ),
    )


def entries(db: sqlite3.Connection, *, since: int) -> Json:
    """`{"entries": [...], "last": seq}`: the entries after `since`, oldest first."""
    rows = db.execute("SELECT * FROM request_log WHERE seq > ? ORDER BY seq", (since,)).fetchall()
    listed = [{**dict(row), "arguments": json.loads(row["arguments"])} for row in rows]
    return {"entries": listed, "last": listed[-1]["seq"] if listed else since}


def summary(db: sqlite3.Connection, *, since: int) -> Json:
    """Counts per kind, the keys carried out twice, and the actions carried out under several keys.

    `duplicates` must be empty whatever happened. `same_arguments` may be intended (two equal mails), so it
    is for a person or a test to judge.
    """
    duplicates = [dict(row) for row in db.execute(DUPLICATES, (since,))]
    same = [
        {**dict(row), "idempotency_keys": json.loads(row["idempotency_keys"])}
        for row in db.execute(SAME_ARGUMENTS, (since,))
    ]
    kinds = {}
    for row in db.execute(COUNTS, (since,)):
        counts = dict(row)
        kind = counts.pop("kind")
        counts["duplicates"] = sum(found["times"] - 1 for found in duplicates if found["kind"] == kind)
        counts["same_arguments"] = sum(found["times"] - 1 for found in same if found["kind"] == kind)
        kinds[kind] = counts
    return {"kinds": kinds, "duplicates": duplicates, "same_arguments": same}
