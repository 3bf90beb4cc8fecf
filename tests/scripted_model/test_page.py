"""What docs/scripted-model.md says is so."""

import re
from pathlib import Path
from typing import get_args

import anthropic
import pytest

from holdfast_workers.scripted_model import load
from holdfast_workers.scripted_model.faults import Fault
from holdfast_workers.scripted_model.scenario import Turn

PAGE = (Path(__file__).parents[2] / "docs" / "scripted-model.md").read_text()


def example() -> str:
    found = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


async def test_the_example_plays_as_described(play):
    async with play(example()) as talk:
        await talk.says("Pay invoice INV-7").turn(["get_invoice", "pay"])
        talk.returns('{"paid": false, "cents": 1250}')
        with pytest.raises(anthropic.APIStatusError):
            await talk.turn(["get_invoice", "pay"])
        paying = await talk.turn(["get_invoice", "pay"])
        assert paying.content[0].input == {"invoice": "INV-7", "cents": 1250}
        last = await talk.returns(Exception("denied: too much")).turn(["get_invoice", "pay"])
    assert last.content[0].text == "Not paid (denied): too much"


def test_every_field_of_a_turn_and_every_fault_is_on_the_page():
    kinds = [get_args(each.model_fields["kind"].annotation)[0] for each in get_args(get_args(Fault)[0])]
    for name in (*Turn.model_fields, *kinds, *(scenario.name for scenario in load([example()], shipped=False))):
        assert re.search(rf"\b{name}\b", PAGE), name
