"""Putting an answer together from raw events, and what of it is kept."""

import pytest

from holdfast.budget import Usage
from holdfast_activities.messages_api.answer import Answer, Piece
from holdfast_activities.messages_api.keeping import INTERRUPTED, kept_blocks, said_blocks


def start(index, **block):
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index, **fields):
    return {"type": "content_block_delta", "index": index, "delta": fields}


def stop(index):
    return {"type": "content_block_stop", "index": index}


def text(index, *parts, whole=True):
    deltas = [delta(index, type="text_delta", text=part) for part in parts]
    return [start(index, type="text", text=""), *deltas, *([stop(index)] if whole else [])]


def call(index, *parts, whole=True, id="a"):
    deltas = [delta(index, type="input_json_delta", partial_json=part) for part in parts]
    first = start(index, type="tool_use", id=id, name="act", input={})
    return [first, *deltas, *([stop(index)] if whole else [])]


def thought(index, *parts, signature=None):
    deltas = [delta(index, type="thinking_delta", thinking=part) for part in parts]
    signed = [delta(index, type="signature_delta", signature=signature)] if signature else []
    return [start(index, type="thinking", thinking="", signature=""), *deltas, *signed, stop(index)]


def ends(reason):
    return [{"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {}}, {"type": "message_stop"}]


def answer(*groups):
    whole = Answer()
    for event in (event for group in groups for event in group):
        whole.take(event)
    return whole


def contents(blocks):
    return [block.content for block in blocks]


def test_deltas_grow_their_blocks_however_they_are_interleaved():
    whole = answer([start(1, type="text", text=""), start(0, type="thinking", thinking="")])
    for event in (
        delta(1, type="text_delta", text="one "),
        delta(0, type="thinking_delta", thinking="hm"),
        delta(1, type="text_delta", text="two"),
        delta(0, type="signature_delta", signature="c2ln"),
        delta(1, type="citations_delta", citation={"url": "u"}),
    ):
        whole.take(event)
    assert contents(whole.ordered()) == [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "text", "text": "one two", "citations": [{"url": "u"}]},
    ]


def test_arguments_are_read_when_their_block_is_whole():
    whole = answer(call(0, '{"amount"', ": 4", "0}"))
    assert whole.ordered()[0].content["input"] == {"amount": 40}


def test_arguments_sent_in_one_piece_are_kept():
    whole = answer([start(0, type="tool_use", id="a", name="act", input={"x": 1}), stop(0)])
    assert whole.ordered()[0].content["input"] == {"x": 1}


@pytest.mark.parametrize("raw", ['{"amount": 4', "{amount: 40}", '{"a": NaN}', "[" * 100_000])
def test_arguments_that_are_not_json_are_marked_and_replaced(raw):
    block = answer(call(0, raw)).ordered()[0]
    assert block.malformed
    assert block.content["input"] == {}


def test_unknown_blocks_deltas_and_events_pass_through():
    whole = answer(
        [{"type": "weather"}, start(0, type="hologram", beam=None, parts=[1])],
        [delta(0, type="beam_delta", beam="ab"), delta(0, type="beam_delta", beam="cd", parts=[2], hue={"r": 1})],
        [stop(0)],
        ends("bored"),
    )
    assert contents(kept_blocks(whole)) == [{"type": "hologram", "beam": "abcd", "parts": [1, 2], "hue": {"r": 1}}]
    assert whole.stop_reason == "bored"


def test_usage_is_cumulative_and_keeps_what_later_events_leave_out():
    started = {
        "type": "message_start",
        "message": {
            "id": "m",
            "model": "c",
            "usage": {
                "input_tokens": 10,
                "cache_read_input_tokens": 5,
                "cache_creation_input_tokens": 3,
                "output_tokens": 1,
            },
        },
    }
    whole = answer(
        [started, {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 7, "input_tokens": None}}]
    )
    assert whole.usage == Usage(input=10, output=7, cache_read=5, cache_write=3)
    assert whole.model == "c"


def test_pieces_are_shown_as_they_come():
    whole = Answer()
    events = [*thought(0, "hm"), *text(1, "a", "b"), *call(2, "{}")]
    shown = [piece for event in events if (piece := whole.take(event))]
    assert shown == [Piece("thinking", "hm"), Piece("text", "a"), Piece("text", "b"), Piece("tool_use", "act")]


def test_a_call_cut_at_the_limit_is_dropped_and_whole_ones_are_kept():
    whole = answer(text(0, "so"), call(1, '{"x": 1}'), call(2, '{"x"', id="b"), ends("max_tokens"))
    assert [block.content.get("id") for block in kept_blocks(whole)] == [None, "a"]


def test_a_call_cut_before_its_arguments_is_dropped():
    assert contents(kept_blocks(answer(call(0), ends("max_tokens")))) == []


def test_a_thought_cut_before_its_signature_is_dropped():
    assert contents(kept_blocks(answer(thought(0, "hm"), ends("max_tokens")))) == []


def test_a_call_without_arguments_is_kept_when_the_model_meant_it():
    assert len(kept_blocks(answer(call(0), ends("tool_use")))) == 1


def test_a_refusal_leaves_no_calls():
    assert contents(kept_blocks(answer(text(0, "no"), call(1, "{}"), ends("refusal")))) == [
        {"type": "text", "text": "no"}
    ]


def test_an_interrupted_answer_keeps_its_words_and_drops_every_call():
    whole = answer(thought(0, "hm", signature="s"), call(1, "{}"), text(2, "so far", whole=False))
    assert [block.type for block in said_blocks(whole)] == ["thinking", "text"]
    assert said_blocks(whole)[1].content["text"] == "so far"


def test_an_interrupted_answer_that_said_nothing_says_so():
    assert contents(said_blocks(answer([start(0, type="thinking", thinking="")]))) == [
        {"type": "text", "text": INTERRUPTED}
    ]


def test_an_interrupted_answer_keeps_server_tools_that_finished():
    asked = [start(0, type="server_tool_use", id="s", name="web_search", input={}), stop(0)]
    found = [start(1, type="web_search_tool_result", tool_use_id="s", content=[]), stop(1)]
    assert [block.type for block in said_blocks(answer(asked, found, text(2, "ok")))][:2] == [
        "server_tool_use",
        "web_search_tool_result",
    ]
    assert [block.type for block in said_blocks(answer(asked, text(2, "ok")))] == ["text"]
