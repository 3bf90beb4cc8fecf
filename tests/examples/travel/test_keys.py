"""An idempotency key is carried out at most once, whatever happens around it."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.examples.travel.conftest import DeskProcess


def a_refund(booking: str, cents: int = 6300) -> dict[str, Any]:
    return {"booking_id": booking, "amount_cents": cents, "reason": "cheaper flight"}


async def test_twenty_requests_at_once_with_one_key_are_carried_out_once(desk: DeskProcess) -> None:
    refund = a_refund(await desk.new_booking(), 100)
    answers = await asyncio.gather(*(desk.post("/payments/refunds", refund, key="at-once") for _ in range(20)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refund_id"] for answer in answers}) == 1
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers].count("true") == 19
    assert await desk.outcomes("at-once") == ["carried_out"] + ["replayed"] * 19
    refunds = (await desk.get("/payments/refunds", booking_id=refund["booking_id"])).json()["refunds"]
    assert len(refunds) == 1


async def test_a_key_is_answered_from_its_row_after_the_process_was_killed(
    start_desk: Callable[[Path], DeskProcess], tmp_path: Path
) -> None:
    first = start_desk(tmp_path)
    before = await first.post("/payments/refunds", a_refund("TRV-1042"), key="k")
    first.stop(signal.SIGKILL)

    second = start_desk(tmp_path)
    after = await second.post("/payments/refunds", a_refund("TRV-1042"), key="k")

    assert after.headers["Idempotency-Replayed"] == "true"
    assert after.json() == before.json()
    assert await second.outcomes("k") == ["carried_out", "replayed"]


async def test_an_effect_whose_answer_died_with_the_process_is_not_carried_out_again(
    start_desk: Callable[[Path], DeskProcess], tmp_path: Path
) -> None:
    first = start_desk(tmp_path)
    await first.break_next("/payments/*", "stall_after", seconds=60)
    lost = asyncio.create_task(first.post("/payments/refunds", a_refund("TRV-1042"), key="k"))
    await first.has_landed("k")
    first.stop(signal.SIGKILL)
    with pytest.raises(httpx2.TransportError):
        await lost

    second = start_desk(tmp_path)
    assert (await second.became("k"))["result"]["amount_cents"] == 6300
    await second.post("/payments/refunds", a_refund("TRV-1042"), key="k")
    assert await second.outcomes("k") == ["carried_out", "replayed"]


async def test_a_request_killed_before_its_effect_left_nothing_and_can_be_sent_again(
    start_desk: Callable[[Path], DeskProcess], tmp_path: Path
) -> None:
    first = start_desk(tmp_path)
    await first.break_next("/payments/*", "stall_before", seconds=60)
    lost = asyncio.create_task(first.post("/payments/refunds", a_refund("TRV-1042"), key="k"))
    await first.fault_was_taken()
    first.stop(signal.SIGKILL)
    with pytest.raises(httpx2.TransportError):
        await lost

    second = start_desk(tmp_path)
    assert await second.became("k") == {"state": "never_seen"}
    await second.post("/payments/refunds", a_refund("TRV-1042"), key="k")
    assert await second.outcomes("k") == ["carried_out"]


async def test_a_key_under_way_is_a_conflict_until_it_is_answered(desk: DeskProcess) -> None:
    refund = a_refund(await desk.new_booking())
    await desk.break_next("/payments/*", "stall_before", seconds=0.5)
    slow = asyncio.create_task(desk.post("/payments/refunds", refund, key="slow"))
    await desk.fault_was_taken()

    impatient = await desk.post("/payments/refunds", refund, key="slow")
    assert (impatient.status_code, impatient.json()["error"]["code"]) == (409, "key_in_flight")
    assert (await slow).status_code == 200
    assert await desk.outcomes("slow") == ["carried_out"]


async def test_a_key_used_for_another_body_is_refused_and_changes_nothing(desk: DeskProcess) -> None:
    booking = await desk.new_booking()
    await desk.post("/payments/refunds", a_refund(booking, 100), key="reused")
    other = await desk.post("/payments/refunds", a_refund(booking, 200), key="reused")

    assert (other.status_code, other.json()["error"]["code"]) == (422, "key_reused")
    refunds = (await desk.get("/payments/refunds", booking_id=booking)).json()["refunds"]
    assert [refund["amount_cents"] for refund in refunds] == [100]


async def test_a_refusal_is_the_answer_of_its_key_for_good(desk: DeskProcess) -> None:
    too_much = a_refund(await desk.new_booking(), 99_999_999)
    first = await desk.post("/payments/refunds", too_much, key="too much")
    again = await desk.post("/payments/refunds", too_much, key="too much")

    assert (first.status_code, first.json()["error"]["code"]) == (409, "exceeds_payment")
    assert (again.status_code, again.json()) == (409, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (await desk.became("too much"))["state"] == "refused"


async def test_arguments_that_make_no_sense_leave_the_key_free(desk: DeskProcess) -> None:
    booking = await desk.new_booking()
    wrong = await desk.post("/payments/refunds", a_refund(booking, -5), key="typo")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "invalid")
    assert await desk.became("typo") == {"state": "never_seen"}
    assert (await desk.post("/payments/refunds", a_refund(booking, 5), key="typo")).status_code == 200


async def test_refusing_a_key_stops_even_a_request_that_is_already_under_way(desk: DeskProcess) -> None:
    refund = a_refund(await desk.new_booking())
    await desk.break_next("/payments/*", "stall_before", seconds=0.5)
    under_way = asyncio.create_task(desk.post("/payments/refunds", refund, key="stopped"))
    await desk.fault_was_taken()

    assert (await desk.post("/effects/stopped/refuse")).json() == {"state": "refused"}
    assert ((await under_way).status_code, (await under_way).json()["error"]["code"]) == (410, "key_refused")
    assert (await desk.post("/payments/refunds", refund, key="stopped")).status_code == 410
    assert "carried_out" not in await desk.outcomes("stopped")


async def test_refusing_a_key_that_landed_says_so_and_takes_nothing_back(desk: DeskProcess) -> None:
    refund = a_refund(await desk.new_booking())
    done = await desk.post("/payments/refunds", refund, key="landed")
    assert (await desk.post("/effects/landed/refuse")).json() == {"state": "landed", "result": done.json()}
    assert (await desk.post("/payments/refunds", refund, key="landed")).json() == done.json()
