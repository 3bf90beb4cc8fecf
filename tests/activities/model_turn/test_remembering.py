"""What of a long conversation is sent, by each memory strategy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from holdfast.catalogue import AgentSpec, Catalogue
from holdfast.ids import canonical
from holdfast.memory import Memory
from holdfast_activities.messages_api.remembering import LEFT_OUT, remembered
from holdfast_activities.messages_api.request import CONTEXT_MANAGEMENT_BETA, build_request
from holdfast_activities.messages_api.steps import Steps, StepsTaken
from holdfast_ledger.records import StoredMessage

OVERHEAD = 300
"""Tokens of system prompt and tools."""
WORDS = 100
"""Tokens of a message."""


def tokens(transcript: tuple[StoredMessage, ...]) -> int:
    """What the model's side counts of messages sent: a stub is nothing."""
    return OVERHEAD + sum(WORDS for message in transcript if "Left out to save" not in str(message.content))


def conversation(memory: Memory, *, requests: int, calls: int) -> Iterator[list[StoredMessage]]:
    """The transcript before each turn of a session that this strategy serves; counts are of what was sent."""
    said: list[StoredMessage] = []

    def add(role: Any, content: Any, turn: int, context: int | None = None) -> None:
        said.append(StoredMessage(head=str(len(said)), role=role, turn=turn, content=content, context=context))

    turn = 0
    for request in range(requests):
        add("user", f"request {request}", turn + 1)
        for call in range(calls + 1):
            turn += 1
            yield list(said)
            counted = tokens(remembered(said, memory).messages) + WORDS
            if call == calls:
                add("assistant", [{"type": "text", "text": f"done {request}"}], turn, counted)
                continue
            add("assistant", [{"type": "tool_use", "id": f"t{turn}", "name": "look", "input": {}}], turn, counted)
            add("results", [{"tool_use_id": f"t{turn}", "status": "ok", "text": f"{turn}-" + "x" * 500}], turn + 1)


WINDOW = Memory(strategy="window", above=2000, down_to=800)
PRUNE = Memory(strategy="prune_results", above=2000, down_to=800)


@pytest.mark.parametrize(
    ("requests", "calls"), [(60, 0), (12, 4), (1, 80)], ids=["talk", "work", "one long request"]
)
def test_a_window_bounds_what_is_sent_however_long_the_conversation(requests: int, calls: int) -> None:
    sent = [
        tokens(remembered(said, WINDOW).messages) for said in conversation(WINDOW, requests=requests, calls=calls)
    ]
    assert max(sent) <= WINDOW.above + 2 * WORDS
    assert min(sent[len(sent) // 2 :]) >= WINDOW.down_to - OVERHEAD


@pytest.mark.parametrize("memory", [WINDOW, PRUNE], ids=lambda memory: memory.strategy)
@pytest.mark.parametrize(
    ("requests", "calls"), [(60, 0), (12, 4), (1, 80)], ids=["talk", "work", "one long request"]
)
def test_what_is_sent_alternates_and_answers_every_call(memory: Memory, requests: int, calls: int) -> None:
    catalogue = Catalogue(agent=AgentSpec(memory=memory))
    for said in conversation(memory, requests=requests, calls=calls):
        messages = build_request(catalogue, said).params["messages"]
        assert [message["role"] for message in messages[::2]] == ["user"] * len(messages[::2])
        assert [message["role"] for message in messages[1::2]] == ["assistant"] * len(messages[1::2])
        assert messages[-1]["role"] == "user"
        for asked, answered in pairwise(messages):
            ids = [block["id"] for block in asked["content"] if block["type"] == "tool_use"]
            results = [block["tool_use_id"] for block in answered["content"] if block["type"] == "tool_result"]
            assert results == (ids if asked["role"] == "assistant" else [])
            assert "no recorded result" not in str(answered)


@pytest.mark.parametrize("memory", [WINDOW, PRUNE], ids=lambda memory: memory.strategy)
def test_between_two_steps_what_was_sent_before_begins_what_is_sent_now(memory: Memory) -> None:
    catalogue = Catalogue(agent=AgentSpec(memory=memory, cache=False))
    before: list[bytes] = []
    broken = turns = 0
    for said in conversation(memory, requests=12, calls=4):
        sent = [canonical(message) for message in build_request(catalogue, said).params["messages"]]
        turns += 1
        broken += sent[: len(before)] != before
        before = sent
    assert 0 < broken <= turns / 4, "the provider's cache is lost at steps only"


def test_a_step_once_taken_stays_taken_whatever_follows() -> None:
    for said in conversation(WINDOW, requests=12, calls=4):
        first = remembered(said, WINDOW).messages[0]
        again = remembered(list(said), WINDOW).messages[0]
        assert first == again


@pytest.mark.parametrize("memory", [WINDOW, PRUNE], ids=lambda memory: memory.strategy)
def test_a_step_taken_for_what_was_counted_stays_taken(memory: Memory) -> None:
    before = list(conversation(memory, requests=1, calls=16))[9]
    fits = remembered(before, memory)
    assert fits.room_above is not None
    made = remembered(before, memory, counted=9000)
    assert tokens(made.messages) < tokens(fits.messages)
    assert made.messages[-2:] == fits.messages[-2:], "the open exchange is sent as it is"
    answer = StoredMessage(
        head="n", role="assistant", turn=10, content=[{"type": "text", "text": "on"}], context=1000, counted=9000
    )
    after = remembered([*before, answer], memory)
    assert after.messages[: len(made.messages)] == made.messages
    assert remembered([*before, replace(answer, counted=None)], memory).messages != after.messages


@pytest.mark.parametrize("memory", [WINDOW, PRUNE])
def test_steps_that_are_gone_on_from_are_those_taken_afresh(memory: Memory) -> None:
    earlier = StepsTaken()
    for number, transcript in enumerate(conversation(memory, requests=12, calls=4)):
        for counted in (None, 9000, None):  # an attempt, what was too long for it, and the next attempt
            afresh = remembered(transcript, memory, counted)
            assert remembered(transcript, memory, counted, earlier) == afresh
        if number % 7 == 0:  # a branch that a reset left
            fork = [*transcript[:-1], replace(transcript[-1], head=f"{number} on another branch")]
            assert remembered(fork, memory, None, earlier) == remembered(fork, memory)


def test_a_turn_goes_through_what_is_new_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, before, after = conversation(WINDOW, requests=200, calls=0)
    earlier, gone_through = StepsTaken(), 0
    remembered(before, WINDOW, None, earlier)
    take_in = Steps.take_in

    def counting(steps: Steps, index: int, message: StoredMessage) -> None:
        nonlocal gone_through
        gone_through += 1
        take_in(steps, index, message)

    monkeypatch.setattr(Steps, "take_in", counting)
    remembered(after, WINDOW, None, earlier)
    assert gone_through == len(after) - len(before) == 2


@pytest.mark.parametrize("memory", [WINDOW, PRUNE], ids=lambda memory: memory.strategy)
def test_no_count_is_asked_for_where_no_step_could_follow(memory: Memory) -> None:
    first, *_ = conversation(memory, requests=1, calls=4)
    assert remembered(first, memory).room_above is None, "there is nothing but the message to answer"
    for said in conversation(memory, requests=1, calls=80):
        kept = remembered(said, memory)
        if kept.known is not None and kept.room_above is not None:
            assert kept.room_above >= memory.above
            assert kept.known <= kept.room_above, "else the step would have come with the turn before"


def test_the_open_request_is_never_cut_away() -> None:
    for said in conversation(WINDOW, requests=1, calls=80):
        first = remembered(said, WINDOW).messages[0]
        assert "request 0" in str(first.content)
    assert LEFT_OUT in str(first.content), "the model is told that steps are missing"


def test_old_results_become_stubs_that_read_result_can_follow_and_the_newest_stay_whole() -> None:
    *_, said = conversation(PRUNE, requests=1, calls=40)
    results = [
        message.content[0]["text"] for message in remembered(said, PRUNE).messages if message.role == "results"
    ]
    assert results[0] == '(Left out to save room. `read_result` with call "1.1" gives it back.)'
    assert results[-1].startswith("40-x")
    assert len(remembered(said, PRUNE).messages) == len(said)


def test_a_failed_or_short_result_is_not_stubbed() -> None:
    *_, said = conversation(PRUNE, requests=1, calls=40)
    said[2].content[0].update(status="error", text="refused: " + "y" * 500)
    said[4].content[0].update(text="short")
    results = [
        message.content[0]["text"] for message in remembered(said, PRUNE).messages if message.role == "results"
    ]
    assert results[0].startswith("refused")
    assert results[1] == "short"


def test_after_a_summary_what_came_before_it_is_not_sent() -> None:
    said = [
        StoredMessage(head="0", role="user", turn=1, content="long ago"),
        StoredMessage(head="1", role="assistant", turn=1, content=[{"type": "text", "text": "yes"}]),
        StoredMessage(head="2", role="user", turn=2, content="Summarise.", message_id="summary-2"),
    ]
    memory = Memory(strategy="summarise")
    assert len(remembered(said, memory).messages) == 3, "the summary is asked of the whole"
    said.append(StoredMessage(head="3", role="assistant", turn=2, content=[{"type": "text", "text": "in short"}]))
    said.append(StoredMessage(head="4", role="user", turn=3, content="go on"))
    assert remembered(said, memory).messages[0].content == "Summarise."
    assert remembered(said, memory).left_out == 2


def test_a_summary_of_what_is_too_long_is_made_without_the_results() -> None:
    *_, said = conversation(PRUNE, requests=1, calls=5)
    said.append(StoredMessage(head="s", role="user", turn=6, content="Summarise.", message_id="summary-6"))
    memory = Memory(strategy="summarise")
    assert remembered(said, memory).stubbed == 0
    assert remembered(said[:-1], memory, counted=9000).stubbed == 4, "the open exchange stays as it is"
    assert remembered(said, memory, counted=9000).stubbed == 5


def test_a_summary_is_asked_of_the_cheaper_model_without_tools() -> None:
    agent = AgentSpec(model="big", memory=Memory(strategy="summarise", model="small"))
    said = [StoredMessage(head="0", role="user", turn=1, content="Summarise.", message_id="summary-1")]
    assert build_request(Catalogue(agent=agent), said, summary=True).params["model"] == "small"
    assert build_request(Catalogue(agent=agent), said).params["model"] == "big"


def test_the_apis_own_context_editing_is_asked_for_with_its_beta() -> None:
    agent = AgentSpec(memory=Memory(strategy="api", above=100_000, down_to=60_000), betas=("other",))
    request = build_request(Catalogue(agent=agent), [StoredMessage(head="0", role="user", turn=1, content="hi")])
    (edit,) = request.params["context_management"]["edits"]
    assert edit["trigger"] == {"type": "input_tokens", "value": 100_000}
    assert edit["clear_at_least"] == {"type": "input_tokens", "value": 40_000}
    assert request.headers["anthropic-beta"] == f"other,{CONTEXT_MANAGEMENT_BETA}"


def test_steps_that_make_no_room_are_refused() -> None:
    with pytest.raises(ValidationError, match="must be below"):
        Memory(strategy="window", above=100, down_to=100)
