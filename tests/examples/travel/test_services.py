"""What the desk's services do to each other's data, and how each step is undone."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from tests.examples.travel.conftest import DeskProcess

CHEAPER = "OSLMAD-0313-0725"  # the next morning, on the route of the load bookings


async def hold(desk: DeskProcess, booking: str, flight: str = CHEAPER) -> str:
    answer = await desk.post("/seats/holds", {"flight_id": flight, "booking_id": booking})
    held: str = answer.raise_for_status().json()["hold_id"]
    return held


async def change(desk: DeskProcess, booking: str, hold_id: str, flight: str = CHEAPER) -> dict[str, Any]:
    answer = await desk.post(f"/bookings/{booking}/change", {"flight_id": flight, "hold_id": hold_id})
    changed: dict[str, Any] = answer.raise_for_status().json()
    return changed


async def seats_left(desk: DeskProcess, flight: str) -> int:
    days = {"0312": "2030-03-12", "0313": "2030-03-13"}
    route, day, _ = flight.split("-")
    found = await desk.get("/flights", origin=route[:3], destination=route[3:], date=days[day])
    return next(int(one["seats_left"]) for one in found.json()["flights"] if one["flight_id"] == flight)


async def test_the_next_morning_is_cheaper_so_there_is_something_to_refund(desk: DeskProcess) -> None:
    booking = (await desk.get("/bookings/TRV-1042")).json()
    next_day = await desk.get("/flights", origin="LIS", destination="AMS", date="2030-03-13")
    morning = next_day.json()["flights"][0]
    assert booking["date"] == "2030-03-12"
    assert morning["departure"] == "2030-03-13T07:25"
    assert booking["fare_cents"] - morning["fare_cents"] == 6300


async def test_a_change_and_a_hold_undone_leave_everything_as_it_was(desk: DeskProcess) -> None:
    booking = await desk.new_booking()
    before = (await desk.get(f"/bookings/{booking}")).json()
    free = (await seats_left(desk, before["flight_id"]), await seats_left(desk, CHEAPER))

    held = await hold(desk, booking)
    changed = await change(desk, booking, held)
    assert changed["flight_id"] == CHEAPER
    assert await seats_left(desk, CHEAPER) == free[1] - 1
    assert await seats_left(desk, before["flight_id"]) == free[0] + 1

    for _ in range(2):  # an undo sent twice is an undo
        await desk.post(f"/bookings/changes/{changed['change_id']}/revert")
    for _ in range(2):
        assert (await desk.post(f"/seats/holds/{held}/release")).json()["released"] is True
    assert (await desk.get(f"/bookings/{booking}")).json() == before
    assert (await seats_left(desk, before["flight_id"]), await seats_left(desk, CHEAPER)) == free


async def test_a_seat_somebody_sits_in_cannot_be_released(desk: DeskProcess) -> None:
    booking = await desk.new_booking()
    held = await hold(desk, booking)
    await change(desk, booking, held)
    refused = await desk.post(f"/seats/holds/{held}/release")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "hold_used")


async def test_a_change_needs_a_hold_of_its_own_booking_and_uses_it_up(desk: DeskProcess) -> None:
    booking, other = await desk.new_booking(), await desk.new_booking()
    held = await hold(desk, booking)
    stolen = await desk.post(f"/bookings/{other}/change", {"flight_id": CHEAPER, "hold_id": held})
    assert stolen.json()["error"]["code"] == "wrong_hold"
    await change(desk, booking, held)
    twice = await desk.post(f"/bookings/{booking}/change", {"flight_id": CHEAPER, "hold_id": held})
    assert twice.json()["error"]["code"] == "hold_gone"


async def test_a_change_that_was_changed_again_is_not_reverted(desk: DeskProcess) -> None:
    booking = await desk.new_booking()
    first = await change(desk, booking, await hold(desk, booking))
    later = "OSLMAD-0313-1745"
    await change(desk, booking, await hold(desk, booking, later), later)
    refused = await desk.post(f"/bookings/changes/{first['change_id']}/revert")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "changed_since")


async def test_the_last_seat_is_held_once(desk: DeskProcess) -> None:
    flight = "VIEBER-0312-0725"
    wanted = {"flight_id": flight, "booking_id": "TRV-1046"}
    answers = await asyncio.gather(*(desk.post("/seats/holds", wanted) for _ in range(26)))
    assert sorted(answer.status_code for answer in answers) == [200] * 24 + [409] * 2


async def test_a_hotel_move_is_reverted_to_the_nights_before(desk: DeskProcess) -> None:
    nights = {"check_in": "2030-03-13", "check_out": "2030-03-15"}
    moved = (await desk.post("/hotel/reservations/HTL-5501/move", nights)).json()
    assert (moved["check_in"], moved["previous_check_in"]) == ("2030-03-13", "2030-03-12")
    for _ in range(2):
        back = (await desk.post(f"/hotel/moves/{moved['move_id']}/revert")).json()
        assert (back["check_in"], back["check_out"]) == ("2030-03-12", "2030-03-14")


async def test_leaving_before_arriving_is_refused_with_the_reason(desk: DeskProcess) -> None:
    nights = {"check_in": "2030-03-13", "check_out": "2030-03-13"}
    refused = await desk.post("/hotel/reservations/HTL-5502/move", nights)
    assert refused.status_code == 422
    assert "check_out must be after check_in" in refused.json()["error"]["message"]


async def test_refunds_together_never_exceed_what_was_paid(desk: DeskProcess) -> None:
    booking = await desk.new_booking()
    half = {"booking_id": booking, "amount_cents": 15_600, "reason": "half"}
    statuses = [(await desk.post("/payments/refunds", half)).status_code for _ in range(3)]
    assert statuses == [200, 200, 409]


async def test_the_seed_is_restored_and_the_log_is_not(desk: DeskProcess) -> None:
    held = await hold(desk, "TRV-1042", "LISAMS-0313-0725")
    await change(desk, "TRV-1042", held, "LISAMS-0313-0725")
    last = (await desk.get("/_log")).json()["last"]
    await desk.post("/_restore")
    assert (await desk.get("/bookings/TRV-1042")).json()["flight_id"] == "LISAMS-0312-1745"
    assert await seats_left(desk, "LISAMS-0313-0725") == 24
    assert (await desk.get("/_log")).json()["last"] > last


@pytest.mark.parametrize("path", ["/bookings/TRV-1", "/customers/CUS-1", "/hotel/reservations/HTL-1", "/nowhere"])
async def test_what_does_not_exist_is_a_404_with_a_body(desk: DeskProcess, path: str) -> None:
    answer = await desk.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"to": "\xff"}'])
async def test_a_body_that_is_no_json_object_is_a_400(desk: DeskProcess, body: bytes) -> None:
    async with desk.client() as client:
        answer = await client.post("/mail/messages", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")


async def test_a_taken_port_is_named_without_a_traceback(desk: DeskProcess, tmp_path: object) -> None:
    port = str(urlsplit(desk.url).port)
    second = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "travel_desk.services", "--port", port, "--data", str(tmp_path)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await second.communicate()
    assert second.returncode == 1
    assert complaint.decode() == f"Error: port {port} on 127.0.0.1 is taken; choose another with --port\n"
