"""A session's turns, calls, approvals and ends, on real servers with the production worker."""

from __future__ import annotations

import asyncio
import json

import pytest
from temporalio.client import WorkflowFailureError

from holdfast_workers.client import Rejected, SessionEnded
from tests.workflows.conftest import Runs
from tests.workflows.scenarios import LOOK_TWICE, LOSE, PAY


def tool_results(body: dict) -> dict[str, str]:
    """tool_use_id to text, over all messages of a request."""
    blocks = [b for m in body["messages"] if isinstance(m["content"], list) for b in m["content"]]
    return {b["tool_use_id"]: json.dumps(b["content"]) for b in blocks if b["type"] == "tool_result"}


def dangling(body: dict) -> set[str]:
    blocks = [b for m in body["messages"] if isinstance(m["content"], list) for b in m["content"]]
    return {b["id"] for b in blocks if b["type"] == "tool_use"} - set(tool_results(body))


async def said(house, session_id: str) -> str:
    rows = await house.rows(
        """SELECT c.body FROM holdfast.message m JOIN holdfast.content c USING (session_key, digest)
        JOIN holdfast.session s USING (session_key)
        WHERE s.id = $1 AND m.role = 'assistant' ORDER BY m.turn DESC LIMIT 1""",
        session_id,
    )
    return "".join(block.get("text", "") for block in json.loads(rows[0]["body"]))


async def test_a_raw_temporal_start_needs_only_agent_and_message(open_house) -> None:
    async with open_house() as house:
        start = {"agent": "default", "message": "hello", "close_when_idle": True}
        queue = house.settings.task_queue
        handle = await house.temporal.start_workflow("AgentSession", start, id="raw-start", task_queue=queue)
        result = await asyncio.wait_for(handle.result(), 20)
        assert result["status"] == "completed"
        kinds = [entry["kind"] for entry in await house.entries("raw-start")]
        assert kinds[0] == "session_opened"
        assert kinds[-1] == "session_closed"


@pytest.mark.golden
async def test_parallel_reads_answer_in_the_order_the_model_asked(open_house, config: str, runs: Runs) -> None:
    async with open_house(LOOK_TWICE, config=config) as house:
        session = await house.start("look")
        await house.until(session, "idle")
        assert await said(house, session) == "roof is fine, cellar is fine"
        assert sorted(runs()) == ["look cellar", "look roof"]
        assert not dangling(house.model.requests[-1].body)


@pytest.mark.golden
async def test_an_irreversible_tool_waits_and_a_signal_releases_it_once(
    open_house, config: str, runs: Runs
) -> None:
    async with open_house(PAY, config=config) as house:
        session = await house.start("pay")
        asked = await house.until_asked(session)
        assert runs() == []
        decision = {"call": asked["call"], "digest": asked["digest"], "by": "bob"}
        for _ in range(2):
            await house.handle(session).signal("approve", decision)
        await house.until(session, "idle")
        assert runs() == ["pay 500"]
        decided = next(e for e in await house.entries(session) if e["kind"] == "approval_decided")
        assert (decided["actor"], decided["outcome"]) == ("bob", "approved")
        assert b'"authenticated":false' in decided["body"]


@pytest.mark.golden
async def test_a_denied_tool_never_runs_and_the_model_hears_why(open_house, config: str, runs: Runs) -> None:
    async with open_house(PAY, config=config) as house:
        session = await house.start("pay")
        asked = await house.until_asked(session)
        await house.holdfast.decide(
            session, asked["call"], approve=False, digest=asked["digest"], by="bob", reason="too much"
        )
        await house.until(session, "idle")
        assert runs() == []
        assert "too much" in await said(house, session)
        effects = await house.rows("SELECT state FROM holdfast.effect WHERE tool = 'pay'")
        assert [e["state"] for e in effects] == ["CANCELLED"]


async def test_a_decision_about_other_arguments_is_refused_and_the_session_still_waits(
    open_house, config: str, runs: Runs
) -> None:
    async with open_house(PAY, config=config) as house:
        session = await house.start("pay")
        asked = await house.until_asked(session)
        with pytest.raises(Rejected, match="other arguments"):
            await house.holdfast.decide(session, asked["call"], approve=True, digest="0" * 64, by="bob")
        await house.handle(session).signal("approve", {"call": asked["call"], "digest": "0" * 64})
        await house.handle(session).signal("approve", "nonsense")
        await house.holdfast.decide(session, asked["call"], approve=True, digest=asked["digest"], by="bob")
        await house.until(session, "idle")
        assert runs() == ["pay 500"]
        refused = [e["outcome"] for e in await house.entries(session) if e["kind"] == "signal_refused"]
        assert refused == ["digest", "invalid"]


async def test_a_second_decision_on_the_same_call_is_rejected(open_house, config: str) -> None:
    async with open_house(PAY, config=config) as house:
        session = await house.start("pay")
        asked = await house.until_asked(session)
        await house.holdfast.decide(session, asked["call"], approve=True, digest=asked["digest"], by="bob")
        with pytest.raises(Rejected, match=r"not waiting|already"):
            await house.holdfast.decide(session, asked["call"], approve=False, digest=asked["digest"], by="eve")
        with pytest.raises(Rejected, match="not waiting"):
            await house.holdfast.decide(session, "1.7", approve=True, digest=asked["digest"], by="bob")


@pytest.mark.golden
async def test_an_approval_nobody_gives_expires_as_a_denial(open_house, config: str, runs: Runs) -> None:
    quick = config + '\n[agents.default.policy]\napproval_expiry = "300ms"\n'
    async with open_house(PAY, config=quick) as house:
        session = await house.start("pay")
        await house.until(session, "idle")
        assert runs() == []
        outcomes = [e["outcome"] for e in await house.entries(session) if e["kind"] == "approval_decided"]
        assert outcomes == ["expired"]


async def test_a_privileged_tool_is_denied_without_asking(open_house, config: str, runs: Runs) -> None:
    scenario = """
name: grant
description: grant.
example: grant
match: grant
turns:
  - calls: [{tool: grant, input: {role: admin}}]
  - text: "{{ outcome.grant }}"
"""
    async with open_house(scenario, config=config) as house:
        session = await house.start("grant")
        await house.until(session, "idle")
        assert runs() == []
        assert await said(house, session) == "denied"


@pytest.mark.golden
async def test_an_unknown_outcome_holds_the_session_until_a_person_says(
    open_house, config: str, runs: Runs
) -> None:
    async with open_house(LOSE, config=config) as house:
        session = await house.start("lose")
        await house.until(session, "held")
        assert runs() == ["lost parcel"]
        (effect,) = await house.rows("SELECT effect_id FROM holdfast.effect WHERE state = 'UNKNOWN'")
        await house.holdfast.resolve(
            effect["effect_id"], outcome="happened", by="ann", reason="the parcel is there"
        )
        await house.until(session, "idle")
        assert runs() == ["lost parcel"]
        assert await said(house, session) == "ok"


async def test_wrong_arguments_and_unknown_tools_go_back_to_the_model(open_house, config: str, runs: Runs) -> None:
    scenario = """
name: wrong
description: wrong.
example: wrong
match: wrong
turns:
  - calls: [{tool: look, input: {whom: roof}}]
  - text: "{{ reason.look }}"
"""
    async with open_house(scenario, config=config) as house:
        session = await house.start("wrong")
        await house.until(session, "idle")
        assert runs() == []
        assert "whom" in await said(house, session)


@pytest.mark.golden
async def test_an_interrupt_stops_the_turn_within_a_second_and_leaves_nothing_dangling(
    open_house, config: str
) -> None:
    slow = """
name: slow
description: slow.
example: slow
match: slow
turns:
  - calls: [{tool: look, input: {what: roof, seconds: 30}}]
  - text: never
"""
    async with open_house(slow, config=config) as house:
        session = await house.start("slow")
        await house.until_claimed("look")
        began = asyncio.get_running_loop().time()
        await house.holdfast.interrupt(session, by="ann", reason="wrong house")
        await house.until(session, "idle")
        assert asyncio.get_running_loop().time() - began < 3
        await house.holdfast.send(session, "hello", by="ann")
        await house.model.received(2)
        assert not dangling(house.model.requests[-1].body)


@pytest.mark.golden
async def test_closing_denies_what_waits_and_keeps_what_was_done(open_house, config: str, runs: Runs) -> None:
    async with open_house(PAY, config=config) as house:
        session = await house.start("pay")
        await house.until_asked(session)
        await house.holdfast.close_session(session, by="ann", reason="enough")
        result = await asyncio.wait_for(house.holdfast.result(session), 20)
        assert result.status == "completed"
        assert runs() == []
        with pytest.raises(SessionEnded):
            await house.holdfast.send(session, "hello", by="ann")


@pytest.mark.golden
async def test_an_aborted_request_with_nothing_standing_ends_its_saga_aborted(open_house, config: str) -> None:
    async with open_house(PAY, config=config) as house:
        session = await house.start("pay")
        await house.until_asked(session)
        await house.holdfast.abort(session, by="ann")
        await house.until(session, "idle")
        assert [r["state"] for r in await house.rows("SELECT state FROM holdfast.saga")] == ["ABORTED"]


@pytest.mark.golden
async def test_a_temporal_cancel_means_abort_and_ends_the_session(open_house, config: str) -> None:
    async with open_house(PAY, config=config) as house:
        session = await house.start("pay")
        await house.until_asked(session)
        await house.handle(session).cancel()
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(house.handle(session).result(), 20)
        await house.until(session, "aborted")


async def test_a_temporal_cancel_stops_the_model_before_the_session_ends(open_house) -> None:
    async with open_house() as house:
        house.model.inject({"kind": "stall", "seconds": 30})
        session = await house.start("hello")
        await house.model.received(1)
        await house.handle(session).cancel()
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(house.handle(session).result(), 45)
        (turn,) = await house.rows("SELECT state FROM holdfast.effect WHERE kind = 'model'")
        assert turn["state"] == "DONE"
        kinds = [entry["kind"] for entry in await house.entries(session)]
        assert kinds.index("model_turn") < kinds.index("session_closed")


@pytest.mark.golden
async def test_the_turn_limit_gives_one_last_turn_without_tools(open_house, config: str) -> None:
    endless = """
name: endless
description: endless.
example: endless
match: endless
wrap_up: This is where I stopped.
turns:
  - calls: [{tool: look, input: {what: roof}}]
    repeat: 50
"""
    limited = config.replace("parallel_calls = 4", "turns = 3")
    async with open_house(endless, config=limited) as house:
        session = await house.start("endless")
        result = await asyncio.wait_for(house.holdfast.result(session), 20)
        assert (result.status, result.turns) == ("completed", 4)
        assert "3 turns" in result.reason
        assert await said(house, session) == "This is where I stopped."
        assert house.model.requests[-1].body["tool_choice"] == {"type": "none"}


async def test_a_lost_answer_counts_for_the_limit_as_if_it_had_been_billed(open_house, config: str) -> None:
    working = """
name: working
description: working.
example: working
match: working
wrap_up: This is where I stopped.
turns:
  - calls: [{tool: look, input: {what: roof}}]
    repeat: 3
"""
    async with open_house(working, config=config.replace("parallel_calls = 4", "tokens = 4000")) as house:
        house.model.inject({"kind": "truncate"})
        session = await house.start("working")
        result = await asyncio.wait_for(house.holdfast.result(session), 20)
        assert (result.status, result.turns) == ("completed", 2)
        assert "4000 tokens" in result.reason
        assert (await house.holdfast.reader.session(session)).lost_attempts == 1


@pytest.mark.golden
async def test_a_question_waits_for_the_next_message(open_house, config: str) -> None:
    asking = """
name: asking
description: asking.
example: question
match: question
turns:
  - calls: [{tool: ask_human, input: {question: "Which one?"}}]
  - text: "You said: {{ user_text }}"
"""
    async with open_house(asking, config=config) as house:
        session = await house.start("question")
        await house.until(session, "waiting")
        await house.holdfast.send(session, "the blue one", by="ann")
        await house.until(session, "idle")
        assert "the blue one" in json.dumps(house.model.requests[-1].body)
        assert len(await house.rows("SELECT 1 FROM holdfast.saga")) == 1


async def test_the_shipped_question_is_answered_by_the_next_message(open_house) -> None:
    async with open_house() as house:
        session = await house.start("Ask me something.")
        await house.until(session, "waiting")
        await house.holdfast.send(session, "Move TRV-1042", by="ann")
        await house.until(session, "idle")
        assert await said(house, session) == "You answered: Move TRV-1042"


async def test_the_same_message_id_is_one_request(open_house) -> None:
    async with open_house() as house:
        session = await house.start("hello")
        await house.until(session, "idle")
        for _ in range(2):
            await house.holdfast.send(session, "hello", by="ann", message_id="again")
        await house.until(session, "idle")
        await house.holdfast.close_session(session, by="ann")
        result = await asyncio.wait_for(house.holdfast.result(session), 20)
        assert result.turns == 2


@pytest.mark.golden
async def test_a_permanent_model_error_leaves_the_session_able_to_go_on(open_house) -> None:
    async with open_house() as house:
        house.model.inject({"kind": "http_error", "status": 401})
        session = await house.start("hello")
        await house.until(session, "idle")
        assert await house.rows("SELECT 1 FROM holdfast.entry WHERE kind = 'request_closed' AND outcome = 'failed'")
        await house.holdfast.send(session, "hello", by="ann")
        await house.model.received(2)
        await house.until(session, "idle")


@pytest.mark.parametrize(("times", "ends"), [(1, "completed"), (2, "failed")])
async def test_an_answer_cut_by_the_context_window_goes_on_once_and_then_says_what_to_do(
    open_house, times: int, ends: str
) -> None:
    cut = f"""
name: long
description: long.
example: long
match: long
turns:
  - text: "So far, and"
    stop_reason: model_context_window_exceeded
    repeat: {times}
  - text: so on.
"""
    async with open_house(cut) as house:
        session = await house.start("long")
        await house.until(session, "idle")
        assert (
            house.model.requests[1].body["messages"][-1]["content"][0]["text"].startswith("Your answer was cut off")
        )
        closed = [e["body"] for e in await house.entries(session) if e["kind"] == "request_closed"]
        assert (len(house.model.requests), b"[agents.NAME.memory]" in b"".join(closed)) == (2, ends == "failed")


@pytest.mark.parametrize(
    ("start", "why"),
    [
        ({"agent": "nobody", "message": "hello"}, "no agent `nobody`"),
        ("just text", "input of AgentSession"),
        ({"agent": "default", "message": "x" * 20_000}, "at most 16 KiB"),
    ],
)
async def test_a_bad_start_fails_the_session_in_words(open_house, start: object, why: str) -> None:
    async with open_house() as house:
        queue = house.settings.task_queue
        handle = await house.temporal.start_workflow("AgentSession", start, id=f"bad-{why[:5]}", task_queue=queue)
        with pytest.raises(WorkflowFailureError) as failure:
            await asyncio.wait_for(handle.result(), 20)
        assert why in str(failure.value.cause)
