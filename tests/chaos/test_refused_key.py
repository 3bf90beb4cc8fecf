"""A probe may make a service refuse a key for good. What is sent next, after that, must still be able to happen."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_workers.chaos.house import agents_file
from tests.conftest import OpenHouse
from tests.examples.travel.conftest import DeskProcess

SCRIPT = """
name: refund
description: One refund.
example: refund LOAD-1
match: '^refund (?P<booking>LOAD-\\d+)$'
turns:
  - calls: [{tool: pay_refund, input: {booking_id: "{{ match.booking }}", intent: S-1-10}}]
  - text: "{{ outcome.pay_refund }}"
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeskProcess]:
    desk = DeskProcess(tmp_path / "desk")
    monkeypatch.setenv("TRAVEL_DESK_URL", desk.url)
    yield desk
    desk.stop()


@pytest.mark.parametrize(
    ("fault", "outcomes"),
    [("drop_before", ["carried_out"]), ("drop_after", ["carried_out"]), ("refuse_402", ["refused"])],
)
async def test_a_refund_whose_answer_was_lost_is_paid_once(
    open_house: OpenHouse, desk: DeskProcess, fault: str, outcomes: list[str]
) -> None:
    booking = await desk.new_booking()
    await desk.break_next("/payments/refunds", fault)
    config = (
        agents_file().read_text().replace("[agents.chaos", "[agents.default").replace('["send', '["pay*", "send')
    )
    async with open_house(SCRIPT, config=config) as house:
        session = await house.start(f"refund {booking}", close_when_idle=True)
        result = await house.holdfast.result(session)
        states = [one.state for one in await house.holdfast.reader.effects(session_id=session, kind="call")]

    log = (await desk.get("/_log")).json()["entries"]
    assert [entry["outcome"] for entry in log if entry["kind"] == "refund"] == outcomes
    assert result.status == "completed"
    assert states == ["FAILED" if fault == "refuse_402" else "DONE"]
