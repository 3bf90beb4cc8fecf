"""The desk's tools against the real desk: what they answer, how they are undone, and when they say no."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from holdfast import Tool, ToolContext, ToolError, ToolRefused
from holdfast.policy import POLICY_VERSION, decide
from holdfast_workers.config_file import load_config
from travel_desk import tools

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.examples.travel.conftest import DeskProcess

    Call = Callable[..., Any]


@pytest.fixture
def call(desk: DeskProcess, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run a tool as a worker does: arguments checked, one idempotency key, the result checked."""
    monkeypatch.setenv("TRAVEL_DESK_URL", desk.url)

    async def run(tool: Tool, *, key: str | None = None, **arguments: Any) -> Any:
        tool.arguments.model_validate(arguments)
        used = key or f"{tool.name}:{arguments}"
        async with httpx2.AsyncClient(headers={"Idempotency-Key": used}, verify=False) as http:
            context = ToolContext(
                idempotency_key=used,
                session_id="s",
                requested_by="grace",
                on_behalf_of="ada",
                deadline=datetime(2030, 1, 1, tzinfo=UTC),
                http=http,
                read_secret=lambda name: "",
                beat=lambda: None,
            )
            return tool.result.validate_python(await tool(context, **arguments))

    return run


async def test_the_whole_job_and_its_undo(desk: DeskProcess, call: Call) -> None:
    booking_id = await desk.new_booking()
    booking = await call(tools.get_booking, booking_id=booking_id)
    customer, rules, found, hotel = await asyncio.gather(
        call(tools.get_customer, customer_id=booking["customer_id"]),
        call(tools.get_fare_rules, booking_id=booking_id),
        call(tools.search_flights, origin="OSL", destination="MAD", date="2030-03-13"),
        call(tools.get_reservation, reservation_id=booking["hotel_reservation_id"]),
    )
    assert rules["refunds_fare_difference"] is True
    flight = found["flights"][0]

    hold_arguments = {"flight_id": flight["flight_id"], "booking_id": booking_id}
    hold = await call(tools.hold_seat, **hold_arguments)
    change_arguments = {**hold_arguments, "hold_id": hold["hold_id"]}
    change = await call(tools.change_booking, **change_arguments)
    move_arguments = {
        "reservation_id": hotel["reservation_id"],
        "check_in": "2030-03-13",
        "check_out": "2030-03-15",
    }
    move = await call(tools.move_hotel, **move_arguments)
    difference = change["previous_fare_cents"] - change["fare_cents"]
    paid = await call(tools.refund, booking_id=booking_id, amount_cents=difference, reason="the new fare is lower")
    mail = await call(
        tools.send_mail, to=customer["email"], subject="Your new flight", body=f"It leaves {flight['departure']}."
    )
    assert (difference, paid["amount_cents"]) == (6300, 6300)
    assert paid["refund_id"].startswith("RFD-")
    assert mail["mail_id"].startswith("MSG-")

    for done, arguments, result in (
        (tools.move_hotel, move_arguments, move),
        (tools.change_booking, change_arguments, change),
        (tools.hold_seat, hold_arguments, hold),
    ):
        assert isinstance(done.undo, Tool)
        assert done.undo_args is not None
        await call(done.undo, **done.undo_args(arguments, result))
    assert await call(tools.get_booking, booking_id=booking_id) == booking
    assert await call(tools.get_reservation, reservation_id=hotel["reservation_id"]) == hotel


async def test_the_same_key_pays_once_and_the_log_knows_for_whom(desk: DeskProcess, call: Call) -> None:
    arguments = {"booking_id": await desk.new_booking(), "amount_cents": 500, "reason": "late"}
    first = await call(tools.refund, key="paid once", **arguments)
    second = await call(tools.refund, key="paid once", **arguments)
    assert first == second
    assert await desk.outcomes("paid once") == ["carried_out", "replayed"]
    assert (await desk.get("/_log")).json()["entries"][-1]["who"] == "ada"


async def test_a_refusal_of_the_desk_reaches_the_model_in_its_words(desk: DeskProcess, call: Call) -> None:
    booking = await desk.new_booking()
    with pytest.raises(ToolRefused, match=f"booking `{booking}` has 31200 cents left to refund, not 31201"):
        await call(tools.refund, booking_id=booking, amount_cents=31_201, reason="all of it, and more")


@pytest.mark.parametrize("kind", ["fail_500", "fail_before", "fail_after", "drop_before", "drop_after"])
async def test_an_answer_that_proves_nothing_is_never_called_a_clean_failure(
    desk: DeskProcess, call: Call, kind: str
) -> None:
    await desk.break_next("/mail/*", kind)
    with pytest.raises(httpx2.HTTPError) as raised:
        await call(tools.send_mail, key=f"tool {kind}", to="a@example.com", subject="s", body="b")
    assert not isinstance(raised.value, ToolError)


async def test_an_earlier_attempt_still_under_way_is_not_a_refusal(desk: DeskProcess, call: Call) -> None:
    mail = {"to": "a@example.com", "subject": "s", "body": "under way"}
    await desk.break_next("/mail/*", "stall_before", seconds=0.5)
    first = asyncio.create_task(call(tools.send_mail, key="under way", **mail))
    await desk.fault_was_taken()
    with pytest.raises(httpx2.HTTPStatusError):
        await call(tools.send_mail, key="under way", **mail)
    await first


async def test_without_the_desks_address_the_tool_refuses_and_says_what_is_missing(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRAVEL_DESK_URL")
    with pytest.raises(ToolRefused, match="TRAVEL_DESK_URL"):
        await call(tools.get_booking, booking_id="TRV-1042")


def test_the_agents_tools_load_and_only_the_refund_asks_a_person() -> None:
    with as_file(files("travel_desk") / "holdfast.toml") as path:
        agent = load_config(path).agents["travel"]
    loaded = [resolve_name(name) for name in agent.tools]
    assert all(isinstance(tool, Tool) for tool in loaded)
    verdicts = {
        tool.name: decide(POLICY_VERSION, agent.policy, tool=tool.name, tier=tool.tier, facts={}, roles=()).verdict
        for tool in loaded
    }
    assert [name for name, verdict in verdicts.items() if verdict == "ask"] == ["refund"]
    assert set(verdicts.values()) == {"ask", "allow"}


def test_every_argument_of_every_tool_tells_the_model_its_format() -> None:
    for tool in (found for found in vars(tools).values() if isinstance(found, Tool)):
        for name, schema in tool.input_schema["properties"].items():
            assert schema.get("description"), f"{tool.name}.{name}"
