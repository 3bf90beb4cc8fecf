"""What becomes of whatever a tool returns: always a result, marked where it is odd, never an exception."""

from __future__ import annotations

import json
import threading
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

from holdfast import ToolRefused, tool
from holdfast.states import CallStatus
from holdfast_activities.calls import rendering
from holdfast_activities.redaction import Redactor, detectors
from holdfast_activities.resources import RESOURCES, Resources
from holdfast_activities.tools.builtin.results import read_result
from tests.activities.tools.conftest import Bench


async def _shown(bench: Bench, tool: str, path: str) -> tuple[str, bytes, int]:
    call = await bench.plan(tool, path=path)
    outcome = await bench.run(call)
    row = await bench.effect(call)
    assert (outcome.status, row["state"]) == (CallStatus.OK, "DONE")
    return (row["shown"] or row["result"]).decode(), row["result"], outcome.size


ODD = {
    "nothing": ["(no result)"],
    "text": ["größer"],
    "nan": ['"rate":"nan"', "numbers that JSON has no form for"],
    "bytes": ["2 bytes of binary data"],
    "object": ["`object`, which has no JSON form"],
    "surrogate": ["?"],
    "set": ["[1]"],
    "cycle": ["no JSON form"],
}


async def test_an_odd_result_is_done_and_marked(bench: Bench) -> None:
    for path, says in ODD.items():
        shown, _, _ = await _shown(bench, "returns", path)
        for each in says:
            assert each in shown, path


async def test_a_result_of_the_wrong_type_is_kept_and_marked(bench: Bench) -> None:
    shown, whole, _ = await _shown(bench, "typed", "many")

    assert "not its declared result type" in shown
    assert json.loads(whole) == "many"


async def test_a_long_result_keeps_head_and_tail_and_can_be_read_on(bench: Bench) -> None:
    shown, whole, size = await _shown(bench, "returns", "long")

    assert len(shown) < 600
    assert shown.endswith("THE END")
    assert "read_result" in shown
    assert '"1.1"' in shown
    assert (len(json.loads(whole)), size) == (1007, 1009)


async def test_a_result_of_50_mb_is_done_with_head_and_tail_kept(bench: Bench) -> None:
    shown, whole, _ = await _shown(bench, "returns", "huge")

    assert len(whole) < rendering.MAX_RESULT_BYTES
    assert "the result has 50000002 bytes; only its head and tail are kept" in shown


async def test_read_result_gives_the_part_that_was_asked_for(bench: Bench) -> None:
    await _shown(bench, "returns", "long")
    context = _context(bench)

    assert await read_result(context, "1.1", 0, 5) == "[characters 0 to 5 of 1007]\nxxxxx"
    assert await read_result(context, "1.1", 1000, 100) == "[characters 1000 to 1007 of 1007]\nTHE END"
    with pytest.raises(ToolRefused, match="no kept result"):
        await read_result(context, "9.9")
    with pytest.raises(ToolRefused, match="beyond its end"):
        await read_result(context, "1.1", 5000)


class _Context:
    """The two fields of a ToolContext that `read_result` uses."""

    def __init__(self, session_id: str, lent: Resources) -> None:
        self.session_id = session_id
        self.resources = {RESOURCES: lent}


def _context(bench: Bench) -> _Context:
    return _Context(bench.conversation.session_id, bench.executions._around.resources)


CYCLE: list[object] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "at_once"),
    [
        ("fine", True),
        ({"rows": [{"id": number, "paid": None} for number in range(5)]}, True),
        ("x" * 100_000, False),
        ([["x" * 100] * 5] * 5, False),
        (1 << 100_000, False),
        (Resources, False),
        (CYCLE, False),
    ],
    ids=["text", "rows", "long text", "much together", "long number", "object", "cycle"],
)
async def test_only_what_is_plain_and_small_is_rendered_without_a_thread(value: object, at_once: bool) -> None:
    rendered_in = []

    def note(value: object) -> object:
        rendered_in.append(threading.current_thread())
        return value

    def give() -> Any:
        """Give it."""

    give.__annotations__["return"] = Annotated[Any, AfterValidator(note)]

    detectors()  # the first use of these takes long, too
    await rendering.rendered(tool(give), value, call="1.1", cap=1000, redactor=Redactor())
    assert (rendered_in[0] is threading.current_thread()) is at_once
