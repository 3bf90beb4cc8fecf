"""The request log can be trusted as an oracle: complete, append-only, and able to show a duplicate."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from travel_desk.services import mail, request_log
from travel_desk.services.effects import Effects
from travel_desk.services.operations import Json, Request
from travel_desk.services.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.examples.travel.conftest import DeskProcess

SEND_MAIL = mail.OPERATIONS[0]
MESSAGE = mail.Message(to="ada@example.com", subject="Hello", body="There")


def a_mail(key: str | None) -> Request:
    return Request(
        operation=SEND_MAIL, path="/mail/messages", arguments=MESSAGE, key=key, who="test", traceparent=None
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    yield opened
    opened.close()


async def test_an_entry_says_who_asked_for_what_under_which_key_and_trace(desk: DeskProcess) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    since = (await desk.get("/_log")).json()["last"]
    await desk.post(
        "/mail/messages",
        MESSAGE.model_dump(),
        key="told",
        headers={"traceparent": trace, "X-On-Behalf-Of": "ada"},
    )
    await desk.get("/bookings/TRV-1042")

    told, read = (await desk.get("/_log", since=since)).json()["entries"]
    assert (told["outcome"], told["kind"], told["method"], told["path"], told["status"]) == (
        "carried_out",
        "send_mail",
        "POST",
        "/mail/messages",
        200,
    )
    assert (told["who"], told["idempotency_key"], told["traceparent"]) == ("ada", "told", trace)
    assert told["arguments"] == MESSAGE.model_dump()
    assert (read["outcome"], read["kind"], read["arguments"]) == (
        "read",
        "get_booking",
        {"booking_id": "TRV-1042"},
    )


@pytest.mark.parametrize("change", ["UPDATE request_log SET outcome = 'read'", "DELETE FROM request_log"])
def test_an_entry_can_be_neither_changed_nor_removed(store: Store, change: str) -> None:
    with store.transaction() as db:
        request_log.append(db, a_mail("k"), "carried_out", 200)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), store.transaction() as db:
        db.execute(change)


def test_a_key_carried_out_twice_would_be_reported_as_a_duplicate(store: Store) -> None:
    with store.transaction() as db:
        for _ in range(2):
            request_log.append(db, a_mail("k"), "carried_out", 200)
        summary = request_log.summary(db, since=0)
    assert summary["duplicates"] == [{"kind": "send_mail", "idempotency_key": "k", "times": 2}]
    assert summary["kinds"]["send_mail"]["duplicates"] == 1
    assert summary["same_arguments"] == []


@pytest.mark.parametrize("keys", [("a", "b"), ("a", None), (None, None)])
def test_one_action_under_several_keys_is_reported_apart(store: Store, keys: tuple[str | None, str | None]) -> None:
    with store.transaction() as db:
        for key in keys:
            request_log.append(db, a_mail(key), "carried_out", 200)
        summary = request_log.summary(db, since=0)
    assert summary["duplicates"] == []
    assert [found["idempotency_keys"] for found in summary["same_arguments"]] == [list(keys)]
    assert summary["kinds"]["send_mail"]["same_arguments"] == 1


def test_replays_refusals_and_reads_are_counted_but_are_no_duplicates(store: Store) -> None:
    with store.transaction() as db:
        request_log.append(db, a_mail("k"), "carried_out", 200)
        request_log.append(db, a_mail("k"), "replayed", 200)
        request_log.append(db, a_mail("k"), "refused", 422)
        summary = request_log.summary(db, since=0)
    assert summary == {
        "kinds": {
            "send_mail": {
                "carried_out": 1,
                "replayed": 1,
                "refused": 1,
                "read": 0,
                "duplicates": 0,
                "same_arguments": 0,
            }
        },
        "duplicates": [],
        "same_arguments": [],
    }


def test_an_effect_its_key_and_its_entry_stand_or_fall_together(store: Store) -> None:
    def send_then_die(db: sqlite3.Connection, message: mail.Message) -> Json:
        mail.send_mail(db, message)
        raise RuntimeError("the service dies here")

    effects = Effects(store)
    request = replace(a_mail("k"), operation=replace(SEND_MAIL, run=send_then_die))
    with pytest.raises(RuntimeError, match="dies here"):
        effects.carry_out(request)

    assert effects.look_up("k") == {"state": "never_seen"}
    with store.transaction() as db:
        assert mail.list_mail(db, mail.Sent(to=MESSAGE.to)) == {"messages": []}
        assert request_log.entries(db, since=0) == {"entries": [], "last": 0}
