"""What a stored transcript becomes on its way to the model."""

import json
from datetime import timedelta

import pytest

from holdfast.catalogue import AgentSpec, Catalogue, ToolCard, ToolChoice
from holdfast.ids import canonical
from holdfast_activities.messages_api.conversation import CONTINUE, NO_RESULT
from holdfast_activities.messages_api.request import TOOL_RESULTS_ARE_DATA, build_request
from holdfast_ledger.records import StoredMessage

CALL = {"type": "tool_use", "id": "a", "name": "act", "input": {}}
PAUSED = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}


def text(words):
    return {"type": "text", "text": words}


def card(name, **more):
    return ToolCard(
        name=name,
        version="1",
        description=f"Does {name}.",
        input_schema={"type": "object", "properties": {}},
        tier="read",
        recovery="retry",
        timeout=timedelta(seconds=1),
        attempts=1,
        result_cap=100,
        **more,
    )


def catalogue(*tools, **agent):
    return Catalogue(agent=AgentSpec(cache=False, **agent), tools=tuple(card(name) for name in tools))


def stored(role, content, turn=1):
    return StoredMessage(head="h", role=role, turn=turn, content=content)


def user(content):
    return stored("user", content)


def said(*blocks):
    return stored("assistant", list(blocks))


def results(**texts):
    return stored(
        "results", [{"tool_use_id": key, "status": status, "text": words} for key, (status, words) in texts.items()]
    )


def messages(*transcript, final=None):
    return build_request(catalogue("act"), transcript, final=final).params["messages"]


def params(*transcript, tools=("act",), final=None, **agent):
    return build_request(catalogue(*tools, **agent), transcript or [user("hi")], final=final).params


def test_user_messages_in_a_row_are_one_with_results_first():
    second = {**CALL, "id": "b"}
    sent = messages(
        user("go"), said(CALL, second), user("wait"), results(b=("ok", "2"), a=("ok", "1")), user("and?")
    )
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert [block.get("tool_use_id") or block["text"] for block in sent[2]["content"]] == ["a", "b", "wait", "and?"]


@pytest.mark.parametrize("status", ["error", "denied", "cancelled", "unknown"])
def test_a_call_that_did_not_succeed_is_an_error_to_the_model(status):
    result = messages(user("go"), said(CALL), results(a=(status, "because")))[-1]["content"][0]
    assert result == {"type": "tool_result", "tool_use_id": "a", "content": "because", "is_error": True}


def test_a_call_that_succeeded_is_no_error():
    assert "is_error" not in messages(user("go"), said(CALL), results(a=("ok", "fine")))[-1]["content"][0]


def test_a_call_without_a_result_gets_one():
    sent = messages(user("go"), said(CALL), user("what now?"))
    assert sent[-1]["content"][0]["tool_use_id"] == "a"
    assert sent[-1]["content"][0]["content"] == NO_RESULT
    assert sent[-1]["content"][1] == text("what now?")


def test_a_result_nobody_asked_for_is_left_out():
    sent = messages(user("go"), said(text("no tools")), results(z=("ok", "1")), user("more"))
    assert sent[-1]["content"] == [text("more")]


def test_signatures_and_unknown_blocks_are_sent_as_they_came():
    strange = {"type": "hologram", "beam": [1, {"x": None}]}
    sent = messages(user("go"), said(THOUGHT, strange, CALL), results(a=("ok", "1")))
    assert sent[1]["content"] == [THOUGHT, strange, CALL]


def test_a_paused_turn_is_sent_again_as_it_is():
    sent = messages(user("go"), said(text("searching"), PAUSED))
    assert sent[-1] == {"role": "assistant", "content": [text("searching"), PAUSED]}


def test_what_follows_a_pause_joins_the_same_answer():
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    sent = messages(user("go"), said(PAUSED), said(found, text("found")), user("thanks"))
    assert sent[1]["content"] == [PAUSED, found, text("found")]


def test_a_paused_turn_that_is_not_continued_loses_its_open_call():
    sent = messages(user("go"), said(text("searching"), PAUSED), user("stop that"))
    assert sent[1]["content"] == [text("searching")]


def test_a_server_call_that_waits_for_own_calls_stays_open():
    sent = messages(user("go"), said(PAUSED, CALL), results(a=("ok", "1")))
    assert sent[1]["content"] == [PAUSED, CALL]


def test_a_cut_answer_is_asked_to_go_on_and_stays_so_on_later_turns():
    start = (user("go"), said(text("half a sen")))
    sent = messages(*start)
    assert sent[-1] == {"role": "user", "content": [text(CONTINUE)]}
    assert messages(*start, said(text("tence")), user("ok"))[:3] == sent


def test_an_answer_without_content_is_not_sent():
    sent = messages(user("go"), said(), user("hello?"))
    assert [message["role"] for message in sent] == ["user"]
    assert [block["text"] for block in sent[0]["content"]][-1] == "hello?"


def test_an_answer_does_not_end_in_thoughts():
    assert messages(user("go"), said(text("so"), THOUGHT), user("?"))[1]["content"] == [text("so")]


def test_blank_texts_are_not_sent():
    assert messages(user("  "), said(text(""), CALL), results(a=("ok", "")))[1]["content"] == [CALL]


def test_the_final_turn_says_why_and_may_use_no_tools():
    sent = params(user("go"), said(CALL), results(a=("ok", "1")), final="the limit of 3 turns is reached")
    assert sent["tool_choice"] == {"type": "none"}
    assert [tool["name"] for tool in sent["tools"]] == ["act"]
    assert "the limit of 3 turns is reached" in sent["messages"][-1]["content"][-1]["text"]


def test_the_system_prompt_says_that_results_are_data():
    assert params(system="Be kind.")["system"] == [text(f"Be kind.\n\n{TOOL_RESULTS_ARE_DATA}")]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (ToolChoice(), None),
        (ToolChoice(type="none"), {"type": "none"}),
        (ToolChoice(type="any"), {"type": "any"}),
        (ToolChoice(type="tool", name="act"), {"type": "tool", "name": "act"}),
    ],
)
def test_the_agents_tool_choice_is_sent(choice, sent):
    assert params(tool_choice=choice).get("tool_choice") == sent


def test_a_forced_choice_ends_with_the_first_result():
    sent = params(user("go"), said(CALL), results(a=("ok", "1")), user("hurry"), tool_choice=ToolChoice(type="any"))
    assert "tool_choice" not in sent


def test_an_agent_without_tools_sends_neither_tools_nor_choice():
    assert not {"tools", "tool_choice"} & params(tools=(), final="it is late").keys()


def test_tools_come_by_name_and_server_tools_as_they_are():
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    sent = params(tools=("b", "a"), server_tools=(search,))["tools"]
    assert [tool["name"] for tool in sent] == ["a", "b", "web_search"]
    assert sent[-1] == search


@pytest.mark.parametrize(
    ("model", "thinking"),
    [
        ("claude-sonnet-4-5-20250929", {"type": "enabled", "budget_tokens": 2048}),
        ("claude-haiku-4-5", {"type": "enabled", "budget_tokens": 2048}),
        ("us.anthropic.claude-opus-4-5", {"type": "enabled", "budget_tokens": 2048}),
        ("claude-opus-4-7", {"type": "adaptive"}),
        ("claude-sonnet-5", {"type": "adaptive"}),
    ],
)
def test_thinking_is_asked_for_in_the_form_the_model_takes(model, thinking):
    assert params(model=model, thinking_budget=2048)["thinking"] == thinking


def test_betas_travel_as_a_header():
    assert build_request(catalogue(betas=("a", "b")), [user("hi")]).headers == {"anthropic-beta": "a,b"}


def test_the_system_and_the_last_two_user_messages_are_cached():
    agent = Catalogue(agent=AgentSpec(), tools=(card("act"),))
    talk = [user("1"), said(text("x")), user("2"), said(text("y")), user("3")]
    sent = build_request(agent, talk).params
    marked = [index for index, message in enumerate(sent["messages"]) if "cache_control" in message["content"][-1]]
    assert marked == [2, 4]
    assert "cache_control" in sent["system"][-1]
    assert json.dumps(sent).count("cache_control") <= 4


def test_the_same_transcript_gives_the_same_bytes_after_a_reload():
    agent = Catalogue(agent=AgentSpec(server_tools=({"type": "x", "name": "s"},)), tools=(card("b"), card("a")))
    talk = [user("go"), said(THOUGHT, CALL), results(a=("ok", "1"))]
    reloaded = Catalogue.model_validate_json(canonical(agent.model_dump(mode="json")))
    first, second = build_request(agent, talk), build_request(reloaded, talk)
    assert json.dumps(first.params) == json.dumps(second.params)
    assert first.digest == second.digest


def test_what_was_sent_is_a_prefix_of_what_is_sent_next():
    """Else the provider's prompt cache never hits."""
    talk = [user("go"), said(CALL), results(a=("ok", "1"))]
    before = messages(*talk)
    assert messages(*talk, said(text("done")), user("more"))[: len(before)] == before


def test_a_transcript_in_the_request_is_not_changed():
    talk = [user([text("go")]), said(THOUGHT, CALL), results(a=("ok", "1"))]
    copy = json.dumps([message.content for message in talk])
    build_request(Catalogue(agent=AgentSpec()), talk, final="enough")
    assert json.dumps([message.content for message in talk]) == copy
