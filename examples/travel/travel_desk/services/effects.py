"""Idempotency keys: what a key was answered, once and for ever.

A key's answer, what it did and its entry in the request log are one transaction. So after any crash either
all three stand or none does, and a key seen again is answered from its row.
"""

import json
import sqlite3
from dataclasses import dataclass
from typing import Literal

from travel_desk.services import request_log
from travel_desk.services.operations import Json, Refusal, Request
from travel_desk.services.store import Store


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A status and a JSON body; `replayed` when an earlier request with the same key caused it."""

    status: int
    body: Json
    replayed: bool = False


class Effects:
    """Carries out requests, at most once per key."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, request: Request) -> Answer:
        """Answer a request that changes nothing. Its key, if any, is not kept."""
        with self._store.transaction(durable=False) as db:
            answer = _attempt(db, request)
            request_log.append(db, request, "read", answer.status)
            return answer

    def carry_out(self, request: Request, *, refusal: Refusal | None = None) -> Answer:
        """Do what is asked, or repeat what the key was answered before.

        Args:
            refusal: say this instead of doing it (an injected fault); it becomes the key's answer.
        """
        with self._store.transaction() as db:
            if request.key is not None and (earlier := _find(db, request.key)):
                answer = _repeat(request, earlier)
                request_log.append(db, request, "replayed" if answer.replayed else "refused", answer.status)
                return answer

            answer = _refused(refusal) if refusal else _attempt(db, request)
            landed = answer.status < 400
            request_log.append(db, request, "carried_out" if landed else "refused", answer.status)
            if request.key is not None:
                _keep(db, request.key, request.fingerprint, answer)
            return answer

    def look_up(self, key: str) -> Json:
        """What became of a key: `{"state": "landed" | "refused" | "never_seen", "result": ...}`.

        `never_seen` is not final: a request with this key may be on its way. `refuse` is final.
        """
        with self._store.transaction(durable=False) as db:
            return _report(_find(db, key))

    def refuse(self, key: str) -> Json:
        """Never carry this key out from now on. Answers like `look_up`, but only `landed` or `refused`."""
        with self._store.transaction() as db:
            db.execute("INSERT INTO effect (key, state) VALUES (?, 'refused') ON CONFLICT DO NOTHING", (key,))
            return _report(_find(db, key))


def _attempt(db: sqlite3.Connection, request: Request) -> Answer:
    db.execute("SAVEPOINT attempt")
    try:
        body = request.operation.run(db, request.arguments)
    except Refusal as refusal:
        db.execute("ROLLBACK TO attempt")
        return _refused(refusal)
    return Answer(status=200, body=body)


def _refused(refusal: Refusal) -> Answer:
    return Answer(status=refusal.status, body=refusal.body())


def _repeat(request: Request, earlier: sqlite3.Row) -> Answer:
    if earlier["fingerprint"] is None:
        return _refused(Refusal(410, "key_refused", f"the idempotency key `{request.key}` was refused for good"))
    if earlier["fingerprint"] != request.fingerprint:
        return _refused(
            Refusal(
                422,
                "key_reused",
                f"the idempotency key `{request.key}` was used for another request; send a new key",
            )
        )
    return Answer(status=earlier["status"], body=json.loads(earlier["response"]), replayed=True)


def _find(db: sqlite3.Connection, key: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute("SELECT * FROM effect WHERE key = ?", (key,)).fetchone()
    return row


def _keep(db: sqlite3.Connection, key: str, fingerprint: str, answer: Answer) -> None:
    state: Literal["landed", "refused"] = "landed" if answer.status < 400 else "refused"
    db.execute(
        "INSERT INTO effect (key, state, fingerprint, status, response) VALUES (?, ?, ?, ?, ?)",
        (key, state, fingerprint, answer.status, json.dumps(answer.body)),
    )


def _report(effect: sqlite3.Row | None) -> Json:
    if effect is None:
        return {"state": "never_seen"}
    if effect["response"] is None:
        return {"state": effect["state"]}
    return {"state": effect["state"], "result": json.loads(effect["response"])}
