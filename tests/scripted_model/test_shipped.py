"""The scenarios that come with Holdfast, played to their end with results such as their tools give."""

from typing import Any

import pytest

TRAVEL = ["get_booking", "get_customer", "search_flights", "get_fare_rules", "hold_seat", "change_booking"]
TRAVEL += ["move_hotel", "refund", "send_mail"]
ASK = "Move booking TRV-1042 to the next morning, refund the difference and tell the customer."
RESULTS: dict[str, Any] = {
    "get_booking": '{"booking_id": "TRV-1042", "customer_id": "CUS-201", "flight_id": "LISAMS-0331-1745",'
    ' "origin": "LIS", "destination": "AMS", "date": "2030-03-31", "departure": "2030-03-31T17:45",'
    ' "fare_cents": 31200, "status": "confirmed", "hotel_reservation_id": "HTL-5501"}',
    "get_fare_rules": '{"booking_id": "TRV-1042", "refunds_fare_difference": true}',
    "search_flights": '{"flights": ['
    '{"flight_id": "FULL", "departure": "2030-04-01T06:00", "fare_cents": 100, "seats_left": 0},'
    '{"flight_id": "LATE", "departure": "2030-04-01T12:10", "fare_cents": 29100, "seats_left": 9},'
    '{"flight_id": "EARLY", "departure": "2030-04-01T07:25", "fare_cents": 24900, "seats_left": 2}]}',
    "get_customer": '{"customer_id": "CUS-201", "name": "Ada Moreau", "email": "ada@example.com"}',
    "hold_seat": '{"hold_id": "HLD-1", "flight_id": "EARLY", "expires_at": "2030-03-31T18:00"}',
    "change_booking": '{"change_id": "CHG-1", "booking_id": "TRV-1042"}',
    "refund": '{"refund_id": "RFD-1", "amount_cents": 6300}',
    "send_mail": '{"mail_id": "MSG-1"}',
}


async def to_the_end(talk, tools: list[str], results: dict[str, Any]) -> tuple[list[list[tuple[str, Any]]], str]:
    """Play until no call is left; the calls of each turn, and the last text."""
    turns = []
    while (message := await talk.turn(tools)).stop_reason == "tool_use":
        calls = [(block.name, block.input) for block in message.content if block.type == "tool_use"]
        turns.append(calls)
        talk.returns(*(results[name] for name, _ in calls))
    return turns, message.content[0].text


async def test_the_demo_moves_refunds_and_tells_in_seven_turns(play):
    async with play() as talk:
        turns, text = await to_the_end(talk.says(ASK), TRAVEL, RESULTS)

    assert [[name for name, _ in calls] for calls in turns] == [
        ["get_booking", "get_fare_rules"],
        ["search_flights", "get_customer"],
        ["hold_seat"],
        ["change_booking"],
        ["refund"],
        ["send_mail"],
    ]
    inputs = {name: given for calls in turns for name, given in calls}
    assert inputs["search_flights"] == {"origin": "LIS", "destination": "AMS", "date": "2030-04-01"}
    assert inputs["hold_seat"] == {"flight_id": "EARLY", "booking_id": "TRV-1042"}
    assert inputs["change_booking"] == {"booking_id": "TRV-1042", "flight_id": "EARLY", "hold_id": "HLD-1"}
    assert inputs["refund"]["amount_cents"] == 6300
    assert inputs["send_mail"]["to"] == "ada@example.com"
    assert "63.00" in inputs["send_mail"]["body"]
    for told in ("EARLY", "63.00", "RFD-1", "Ada Moreau", "MSG-1", "HTL-5501"):
        assert told in text


async def test_a_denied_refund_is_left_out_of_the_mail_and_explained(play):
    denied = RESULTS | {"refund": Exception("denied: the customer was paid last week")}
    async with play() as talk:
        turns, text = await to_the_end(talk.says(ASK), TRAVEL, denied)
    name, mail = turns[-1][0]
    assert name == "send_mail"
    assert "refund" not in mail["body"]
    assert "“the customer was paid last week”" in text
    assert "RFD" not in text


async def test_an_unknown_refund_is_not_claimed(play):
    unknown = RESULTS | {"refund": Exception("The outcome of this call is unknown.")}
    async with play() as talk:
        turns, text = await to_the_end(talk.says(ASK), TRAVEL, unknown)
    assert "refund" not in turns[-1][0][1]["body"]
    assert "not known" in text


@pytest.mark.parametrize(
    ("tool", "last_calls"),
    [
        ("get_booking", ["get_booking", "get_fare_rules"]),
        ("search_flights", ["search_flights", "get_customer"]),
        ("hold_seat", ["hold_seat"]),
        ("change_booking", ["change_booking"]),
        ("send_mail", ["send_mail"]),
    ],
)
async def test_a_step_that_fails_ends_the_demo_with_its_reason(play, tool, last_calls):
    async with play() as talk:
        turns, text = await to_the_end(talk.says(ASK), TRAVEL, RESULTS | {tool: Exception("no such luck")})
    assert [name for name, _ in turns[-1]] == last_calls
    assert "no such luck" in text


@pytest.mark.parametrize(
    "no_refund",
    [
        {"get_fare_rules": '{"refunds_fare_difference": false}'},
        {"get_booking": RESULTS["get_booking"].replace("31200", "100")},
    ],
)
async def test_nothing_is_refunded_where_nothing_is_due(play, no_refund):
    async with play() as talk:
        turns, text = await to_the_end(talk.says(ASK), TRAVEL, RESULTS | no_refund)
    assert "refund" not in [name for calls in turns for name, _ in calls]
    assert "No refund" in text


@pytest.mark.parametrize("answered", range(6))
async def test_the_demo_can_be_wrapped_up_after_any_turn(play, answered):
    async with play() as talk:
        talk.says(ASK)
        for _ in range(answered):
            message = await talk.turn(TRAVEL)
            talk.returns(*(RESULTS[block.name] for block in message.content if block.type == "tool_use"))
        last = await talk.turn(TRAVEL, tool_choice={"type": "none"})
    assert last.stop_reason == "end_turn"
    assert ("hold_seat (ok)" in last.content[0].text) == (answered >= 3)


@pytest.mark.parametrize(
    ("text", "tool", "given", "result"),
    [
        ("List the files in the workspace.", "list_files", {"path": "."}, "a.txt"),
        ("please list files in src/app", "list_files", {"path": "src/app"}, "main.py"),
        ("Read file notes.txt.", "read_file", {"path": "notes.txt"}, "Buy milk"),
        (
            "Write file a/b.md saying Hello: {{ 1 }}",
            "write_file",
            {"path": "a/b.md", "content": "Hello: {{ 1 }}"},
            "b.md",
        ),
        # the answer itself is a message of its own; tests/workflows plays that
        (
            "Ask me something",
            "ask_human",
            {"question": "What would you like to call this session?"},
            "You answered",
        ),
        ("Wait 5 seconds.", "wait_until", {"seconds": 5}, "5"),
    ],
)
async def test_first_steps_use_the_built_in_tools(play, text, tool, given, result):
    async with play() as talk:
        turns, last = await to_the_end(talk.says(text), [tool], {tool: result})
        assert turns == [[(tool, given)]]
        assert result in last
        talk.messages.clear()
        _, last = await to_the_end(talk.says(text), [tool], {tool: Exception("denied: not today")})
        assert "not today" in last


async def test_hello_needs_no_tool(play):
    async with play() as talk:
        assert "scripted" in (await talk.says("Hello!").turn()).content[0].text


async def test_repeated_words_are_counted_by_the_tool_that_init_writes(play):
    async with play() as talk:
        asked = talk.says("Which words does this repeat: the cat saw the dog?")
        turns, last = await to_the_end(asked, ["word_counts"], {"word_counts": '{"the": 2}'})
    assert turns == [[("word_counts", {"text": "the cat saw the dog?"})]]
    assert "the: 2" in last
