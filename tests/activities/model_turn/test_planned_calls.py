"""Blocks that no tool can run as they are, and what becomes of them."""

import re

import pytest

from holdfast import tool
from holdfast.catalogue import AgentSpec, Catalogue
from holdfast.contracts import ModelTurn, SagaRef
from holdfast.errors import DeclarationError
from holdfast_activities.messages_api.answer import Block
from holdfast_activities.planned_calls import plan_calls
from holdfast_activities.tools.book import card_of

REQUEST = ModelTurn(session_id="s", turn=3, parent="p", head="h", catalogue="c", saga=SagaRef(id="g"))


@tool
def lookup(city: str, days: int = 1) -> str:
    """Look up the weather."""
    return city


class Shelf:
    """A worker's tools; `gone` are in the catalogue and no longer here."""

    def __init__(self, *gone):
        self._gone = gone

    def tool(self, card):
        if card.name in self._gone:
            raise DeclarationError("gone")
        return lookup


def plan(*blocks, book=None):
    catalogue = Catalogue(agent=AgentSpec(), tools=(card_of(lookup, "here:lookup"),))
    return plan_calls(blocks, request=REQUEST, catalogue=catalogue, book=book or Shelf())


def call(id="a", name="lookup", input=None, **more):
    return Block(
        {"type": "tool_use", "id": id, "name": name, "input": {"city": "Oslo"} if input is None else input}, **more
    )


def test_calls_are_numbered_in_the_models_order_whether_they_can_run_or_not():
    planned = plan(call("a"), Block({"type": "text", "text": "and"}), call("b", name="nope"), call("c")).planned
    assert [(each.call, each.tool_use_id) for each in planned] == [("3.1", "a"), ("3.3", "c")]


def test_server_tools_are_content_and_no_calls():
    block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    assert plan(Block(block)).calls == ()
    assert plan(Block(block)).content == [block]


def test_of_two_calls_with_one_id_the_second_is_renamed_and_does_not_run():
    made = plan(call("a"), call("a"), call("a"))
    stored = [block["id"] for block in made.content]
    assert len(set(stored)) == 3
    assert [each.tool_use_id for each in made.calls] == stored
    assert [each.invalid is None for each in made.calls] == [True, False, False]
    assert len(made.planned) == 1


@pytest.mark.parametrize("id", [None, "", "with blank", 7, "x" * 200])
def test_a_call_without_a_usable_id_gets_one_and_does_not_run(id):
    made = plan(call(id))
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", made.content[0]["id"])
    assert made.calls[0].invalid
    assert made.planned == ()


@pytest.mark.parametrize("name", ["functions.lookup", "", "ein Werkzeug", "x" * 300])
def test_a_name_the_api_refuses_is_stored_as_one_it_takes(name):
    made = plan(call(name=name))
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", made.content[0]["name"])
    assert "There is no tool" in made.calls[0].invalid


@pytest.mark.parametrize("given", [["Oslo"], "Oslo", 7, None])
def test_arguments_that_are_no_object_are_stored_as_an_empty_one(given):
    block = Block({"type": "tool_use", "id": "a", "name": "lookup", "input": given})
    made = plan(block)
    assert made.content[0]["input"] == {}
    assert made.calls[0].invalid


def test_a_tool_this_worker_no_longer_has_does_not_run():
    made = plan(call(), book=Shelf("lookup"))
    assert "not available" in made.calls[0].invalid
    assert made.planned == ()


def test_arguments_run_with_their_defaults_and_are_stored_as_the_model_sent_them():
    made = plan(call())
    assert made.planned[0].args == b'{"city":"Oslo","days":1}'
    assert made.content[0]["input"] == {"city": "Oslo"}


def test_equal_arguments_have_different_digests():
    """Else a digest shown to an approver could be guessed."""
    first, second = plan(call("a"), call("b")).calls
    assert first.digest != second.digest


def test_fields_of_a_call_that_nobody_knows_are_kept():
    block = {
        "type": "tool_use",
        "id": "a",
        "name": "lookup",
        "input": {"city": "Oslo"},
        "caller": {"type": "direct"},
    }
    assert plan(Block(block)).content == [block]
