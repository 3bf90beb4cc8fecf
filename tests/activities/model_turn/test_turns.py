"""What a turn records, and what it never does twice."""

import json
from decimal import Decimal

import asyncpg
import pytest

from holdfast import ids
from holdfast.contracts import UserMessage

SCRIPT = """
name: weather
description: Looks up and answers.
example: the weather please
match: weather
turns:
  - thinking: I should look.
    text: I will look.
    calls: [{tool: lookup, input: {city: Paris}}, {tool: lookup, input: {city: Rome, days: 3}}]
    wrap_up: I could not look.
  - text: Sun in both.
---
name: pay
description: Pays.
example: pay bob
match: ^pay
turns:
  - calls: [{tool: transfer, input: {to: bob, amount: 12.5, password: hunter2}}]
  - text: Paid.
---
name: odd
description: Sends what nobody knows.
example: be odd
match: ^be odd
turns:
  - thinking: Odd.
    text: See.
    blocks: [{type: hologram, beam: {hue: [1, 2]}}]
    calls: [{tool: lookup, input: {city: Oslo}}]
  - text: Done.
    stop_reason: bored
---
name: wrong
description: Calls wrongly.
example: call wrongly
match: ^call wrongly
turns:
  - calls: [{tool: lookup, input: {town: Paris}}, {tool: lookup, input: {city: Rome}}]
  - text: Sorry.
---
name: chat
description: Talks.
example: hello
match: ^hello
turns:
  - text: Hello.
---
name: refusal
description: Refuses.
example: refuse
match: ^refuse
turns:
  - text: I cannot.
    stop_reason: refusal
---
name: question
description: Asks a person.
example: ask me
match: ^ask me
turns:
  - calls: [{tool: ask_human, input: {question: "Which city?"}}]
  - text: Thanks.
---
name: search
description: Pauses.
example: search for it
match: ^search
turns:
  - text: Searching.
    blocks: [{type: server_tool_use, id: srvtoolu_1, name: web_search, input: {query: it}}]
    stop_reason: pause_turn
  - blocks: [{type: web_search_tool_result, tool_use_id: srvtoolu_1, content: []}]
    text: Found nothing.
"""
SEARCH = {"type": "web_search_20250305", "name": "web_search"}


async def test_a_turn_with_calls_and_one_that_answers(start, model):
    session = await start()
    asked = await session.says("the weather please")
    assert asked.stop_reason == "tool_use"
    assert [call.tool for call in asked.calls] == ["lookup", "lookup"]
    assert asked.calls[1].preview == "city='Rome', days=3"
    assert asked.text == "I will look."
    answered = await session.says(session.results(asked, text="sun"))
    assert (answered.stop_reason, answered.text, answered.calls) == ("end_turn", "Sun in both.", ())
    assert [message.role for message in await session.transcript()] == ["user", "assistant", "results", "assistant"]
    results = model.requests[1].body["messages"][-1]["content"]
    assert [result["content"] for result in results] == ["sun", "sun"]


async def test_a_recorded_answer_makes_no_second_request(start, model):
    session = await start()
    request = session.asks("the weather please")
    first = await session.attempt(request)
    assert await session.attempt(request) == first
    assert model.count == 1


async def test_a_recorded_answer_is_returned_by_another_worker_too(start, model, ledger):
    session, other = await start(), await start()
    request = session.asks("hello")
    first = await session.attempt(request)
    assert first.committed
    assert await other.attempt(request) == first
    assert model.count == 1


async def test_usage_and_cost_are_recorded(start):
    session = await start()
    result = await session.says("hello")
    assert result.usage.input > 0
    assert result.usage.output > 0
    assert result.usd == (result.usage.input * 2 + result.usage.output * 10) / Decimal(1_000_000)
    assert session.reports[0].outcome == "done"
    assert session.reports[0].usd == result.usd


async def test_a_model_without_a_price_has_no_cost(start):
    session = await start(model="claude-of-the-future")
    request = session.asks("hello")
    result = await session.attempt(request)
    assert result.usd is None
    assert (await session.row(request, "usd"))["usd"] is None


async def test_a_turn_with_calls_leaves_the_saga_open(start):
    session = await start()
    asked = await session.says("the weather please")
    assert not asked.committed


async def test_an_answer_without_calls_commits_the_saga(start):
    assert (await (await start()).says("hello")).committed


@pytest.mark.parametrize(("policy", "committed"), [("stop", True), ("fail", False)])
async def test_a_refusal_commits_where_the_agent_stops_at_it(start, policy, committed):
    result = await (await start(on_refusal=policy)).says("refuse")
    assert (result.stop_reason, result.committed) == ("refusal", committed)


async def test_secrets_are_masked_in_previews_and_facts_are_computed(start):
    session = await start()
    call = (await session.says("pay bob")).calls[0]
    assert "hunter2" not in call.preview
    assert "to='bob'" in call.preview
    assert call.facts == {"amount": 12.5}
    assert call.invalid is None


async def test_planned_calls_hold_their_arguments_under_a_salted_digest(start, ledger):
    session = await start()
    request = session.asks("pay bob")
    result = await session.attempt(request)
    effect = ids.effect_id(session.id, ids.call_path(1, result.calls[0].tool_use_id), request.head)
    async with ledger.transaction() as connection:
        row = await connection.fetchrow(
            "SELECT call, args, args_salt, fingerprint, tier, recovery FROM holdfast.effect WHERE effect_id = $1",
            effect,
        )
    assert json.loads(row["args"]) == {"to": "bob", "amount": 12.5, "password": "hunter2"}
    assert row["fingerprint"] == result.calls[0].digest == ids.salted_digest(row["args_salt"], row["args"])
    assert (row["call"], row["tier"], row["recovery"]) == ("1.1", "irreversible", "operator")


async def test_a_call_that_only_waits_is_no_effect(start):
    """Else it would stay open for ever, and keep the saga from committing."""
    session = await start(tools=("ask_human",))
    asked = await session.says("ask me")
    assert [call.tool for call in asked.calls] == ["ask_human"]
    assert (await session.says(session.results(asked))).committed


async def test_signatures_and_unknown_blocks_survive_the_round_trip(start, model):
    """The scripted model refuses a thinking block that it signed and somebody changed."""
    session = await start(model="claude-haiku-4-5", thinking_budget=1024)
    asked = await session.says("be odd")
    stored = await session.spoken()
    assert [block["type"] for block in stored] == ["thinking", "text", "hologram", "tool_use"]
    assert stored[2] == {"type": "hologram", "beam": {"hue": [1, 2]}}
    assert stored[0]["signature"]
    answered = await session.says(session.results(asked))
    assert model.requests[1].body["messages"][1]["content"] == stored
    assert answered.stop_reason == "bored"
    assert not answered.committed


async def test_wrong_arguments_go_back_to_the_model_and_right_ones_run(start, model):
    session = await start()
    asked = await session.says("call wrongly")
    wrong, right = asked.calls
    assert "`city` is missing" in wrong.invalid
    assert (wrong.digest, right.invalid) == ("", None)
    assert (await session.says(session.results(asked))).text == "Sorry."
    sent = model.requests[1].body["messages"][-1]["content"]
    assert sent[0]["is_error"] is True
    assert "is_error" not in sent[1]


async def test_a_tool_that_does_not_exist_is_answered_with_those_that_do(start, model):
    session = await start()
    model.inject({"kind": "unknown_tool", "name": "teleport"})
    asked = await session.says("the weather please")
    assert "There is no tool `teleport`" in asked.calls[0].invalid
    assert "`lookup`" in asked.calls[0].invalid
    assert (await session.says(session.results(asked))).stop_reason == "end_turn"


async def test_arguments_that_are_not_json_are_answered(start, model):
    session = await start()
    model.inject({"kind": "malformed_tool_json"})
    request = session.asks("pay bob")
    asked = await session.attempt(request)
    session.goes_on(request, asked)
    assert "could not be read" in asked.calls[0].invalid
    assert "hunter2" not in asked.calls[0].invalid
    kept = json.loads((await session.row(request, "outcome"))["outcome"])["malformed"]
    assert "bob" in kept[asked.calls[0].tool_use_id]
    assert (await session.spoken())[-1]["input"] == {}
    assert (await session.says(session.results(asked))).text == "Paid."


async def test_a_call_cut_at_the_token_limit_is_dropped_and_the_session_goes_on(start, model):
    session = await start()
    model.inject({"kind": "max_tokens"})
    cut = await session.says("the weather please")
    assert cut.stop_reason == "max_tokens"
    assert len(cut.calls) == 1
    assert not cut.committed
    await session.says(session.results(cut))


async def test_a_turn_cut_in_its_only_call_goes_on_without_it(start, model):
    session = await start()
    model.inject({"kind": "max_tokens"})
    cut = await session.says("pay bob")
    assert (cut.stop_reason, cut.calls) == ("max_tokens", ())
    await session.says("pay bob")


@pytest.mark.parametrize(("policy", "committed"), [("stop", True), ("continue", False)])
async def test_a_cut_answer_commits_where_the_agent_stops_at_it(start, model, policy, committed):
    session = await start(on_max_tokens=policy)
    model.inject({"kind": "max_tokens"})
    assert (await session.says("hello")).committed == committed


async def test_a_paused_turn_goes_on_when_sent_again(start, model):
    session = await start(server_tools=(SEARCH,))
    paused = await session.says("search for it")
    assert (paused.stop_reason, paused.calls, paused.committed) == ("pause_turn", (), False)
    assert (await session.says()).stop_reason == "end_turn"
    assert model.requests[1].body["messages"][-1]["role"] == "assistant"


async def test_the_final_turn_cannot_call_tools(start, model):
    last = await (await start()).says("the weather please", final="the limit of 2 turns is reached")
    assert (last.text, last.calls) == ("I could not look.", ())
    assert model.requests[0].body["tool_choice"] == {"type": "none"}
    assert "the limit of 2 turns is reached" in model.requests[0].body["messages"][-1]["content"][-1]["text"]


async def test_tool_choice_and_betas_reach_the_model(start, model):
    session = await start(tool_choice={"type": "tool", "name": "transfer"}, betas=("new-2026",))
    assert [call.tool for call in (await session.says("hello")).calls] == ["transfer"]
    assert model.requests[0].body["tool_choice"] == {"type": "tool", "name": "transfer"}
    assert model.requests[0].headers["anthropic-beta"] == "new-2026"


async def test_chunks_come_in_order_under_the_attempts_token(start):
    session = await start()
    await session.says("the weather please")
    chunks = session.chunks.chunks
    assert [chunk.seq for chunk in chunks] == list(range(len(chunks)))
    assert {(chunk.session_id, chunk.turn, chunk.token) for chunk in chunks} == {(session.id, 1, 1)}
    assert "".join(chunk.text for chunk in chunks if chunk.kind == "text") == "I will look."
    assert [chunk.text for chunk in chunks if chunk.kind == "tool_use"] == ["lookup", "lookup"]


async def test_a_message_sent_by_digest_is_read_from_postgres(start, ledger):
    session = await start()
    digest = await ledger.store_message(session.id, ids.canonical("hello"))
    assert (await session.says(UserMessage(id="m", digest=digest))).text == "Hello."


async def test_a_message_that_is_not_in_postgres_holds_the_session(start, model):
    session = await start()
    result = await session.attempt(session.asks(UserMessage(id="m", digest="0" * 64)))
    assert "older" in result.held
    assert model.count == 0


async def test_a_session_whose_past_is_missing_is_held(start, model):
    session = await start()
    session.head = "f" * 64
    assert "older" in (await session.attempt(session.asks("hello"))).held
    assert model.count == 0


async def test_a_turn_of_a_closed_saga_does_not_run(start, model, database):
    session = await start()
    asked = await session.says("the weather please")
    owner = await asyncpg.connect(database.owner_dsn)
    try:
        await owner.execute("UPDATE holdfast.saga SET state = 'UNWINDING', epoch = epoch + 1")
    finally:
        await owner.close()
    assert "UNWINDING" in (await session.attempt(session.asks(session.results(asked)))).failed
    assert model.count == 1


async def test_messages_that_do_not_lead_to_the_head_hold_the_session(start, model):
    session = await start()
    request = session.asks("hello").model_copy(update={"head": "a" * 64})
    assert "lead to head" in (await session.attempt(request)).held
    assert model.count == 0
