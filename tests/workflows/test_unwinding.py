"""A request that is given up is undone, as policy says: by whom, when, and who is told what."""

from __future__ import annotations

import asyncio
import json

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError

from holdfast.saga_contracts import UnwindResult
from holdfast.states import SagaState
from holdfast_workflows.unwinding import in_words
from tests.conftest import House
from tests.waiting import until
from tests.workflows.conftest import Gate, Runs
from tests.workflows.scenarios import RESERVE

RESERVE_AND_PAY = """
name: reserve-and-pay
description: Reserve, then pay.
example: trip
match: trip
wrap_up: "So far: {{ outcome.reserve }}"
turns:
  - calls: [{tool: reserve, input: {what: seat}}, {tool: look, input: {what: roof}}]
  - calls: [{tool: reserve, input: {what: bed}}]
  - calls: [{tool: pay, input: {cents: 500}}]
  - text: "{{ outcome.pay }}"
"""

RESERVE_AND_FAIL = """
name: reserve-and-fail
description: Reserve, then lose the model.
example: trip
match: trip
turns:
  - calls: [{tool: reserve, input: {what: seat}}]
  - text: never
    faults: [{kind: http_error, status: 401}]
"""

GIVE_UP = """
name: give-up
description: Reserve, then give up, and say so in writing.
example: give up
match: give up
turns:
  - calls: [{tool: reserve, input: {what: seat}}]
  - calls:
      - {tool: reserve, input: {what: bed}}
      - {tool: abort_request, input: {reason: the hotel is closed}}
      - {tool: look, input: {what: roof}}
  - calls: [{tool: reserve, input: {what: letter}}]
  - text: "{{ outcome.abort_request }}: {{ results.abort_request }}"
"""

LOSE_AND_GIVE_UP = """
name: lose-and-give-up
description: Lose, then give up.
example: lose
match: lose
turns:
  - calls: [{tool: lost, input: {what: parcel}}]
  - calls: [{tool: abort_request, input: {reason: the parcel is lost}}]
  - text: "{{ outcome.abort_request }}: {{ reason.abort_request }}"
"""

POLICY = '\n[agents.default.policy]\non_abort = "{}"\n'


def by_turn(done: list[str]) -> list[str]:
    """What RESERVE_AND_PAY did: the two calls of its first turn run beside each other, in either order."""
    return [*sorted(done[:2]), *done[2:]]


async def sagas(house: House) -> list[str]:
    return [row["state"] for row in await house.rows("SELECT state FROM holdfast.saga ORDER BY opened_at")]


async def children(house: House, session: str) -> list[str]:
    """Workflow ids of what the session started."""
    started = [event.child_workflow_execution_started_event_attributes for event in await house.history(session)]
    return [each.workflow_execution.workflow_id for each in started if each.workflow_execution.workflow_id]


async def cancel_taken_in(house: House, session: str) -> bool:
    """Whether a workflow task has completed since the cancel was asked for."""
    types = [event.event_type for event in await house.history(session)]
    asked = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED
    return asked in types and EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED in types[types.index(asked) :]


async def reason(house: House, session: str) -> str:
    (row,) = await house.rows("SELECT status_reason FROM holdfast.session WHERE id = $1", session)
    return row["status_reason"] or ""


async def idle_because(house: House, session: str, words: str) -> str:
    """Wait until the session rests, and says why."""

    async def said() -> str | None:
        (row,) = await house.rows("SELECT status, status_reason FROM holdfast.session WHERE id = $1", session)
        why = row["status_reason"] or ""
        return why if row["status"] == "idle" and words in why else None

    return await until(said, f"{session} to rest, saying `{words}`", within=20)


def last_request(house: House) -> str:
    return json.dumps(house.model.requests[-1].body["messages"])


@pytest.mark.golden
async def test_an_aborted_request_is_undone_newest_first_and_everybody_is_told(
    open_house, config: str, runs: Runs
) -> None:
    async with open_house(RESERVE_AND_PAY, config=config) as house:
        session = await house.start("trip")
        await house.until_asked(session)
        await house.holdfast.abort(session, by="ann", reason="wrong week")
        told = await idle_because(house, session, "undone")
        assert by_turn(runs()) == ["look roof", "reserve seat", "reserve bed", "release bed", "release seat"]
        assert told == "aborted by ann: wrong week; undone: 2.1 reserve, 1.1 reserve; nothing stands"
        assert await sagas(house) == ["ABORTED"]
        (unwind,) = await children(house, session)
        assert unwind.startswith(f"{session}/unwind/1-")
        await house.holdfast.send(session, "hello", by="ann")
        await house.model.received(4)
        assert "[Holdfast: the request before was stopped (aborted by ann: wrong week); undone: " in last_request(
            house
        )


async def test_a_session_says_that_it_unwinds_and_its_cancel_does_not_stop_that(
    open_house, config: str, runs: Runs, gate: Gate
) -> None:
    async with open_house(RESERVE_AND_PAY, config=config) as house:
        gate.touch()
        session = await house.start("trip")
        await house.until_asked(session)
        await house.holdfast.abort(session, by="ann")
        await house.until_claimed("release")
        assert await reason(house, session) == "unwinding: aborted by ann"
        await house.handle(session).cancel()
        await until(lambda: cancel_taken_in(house, session), "the session to take the cancel in")
        assert "release bed" not in runs()
        gate.unlink()
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(house.handle(session).result(), 20)
        await house.until(session, "aborted")
        assert runs()[-2:] == ["release bed", "release seat"]
        (unwind,) = await children(house, session)
        assert (await house.handle(unwind).describe()).status is WorkflowExecutionStatus.COMPLETED
        assert await sagas(house) == ["ABORTED"]


async def test_an_unwind_goes_on_when_its_session_is_terminated(
    open_house, config: str, runs: Runs, gate: Gate
) -> None:
    async with open_house(RESERVE_AND_PAY, config=config) as house:
        gate.touch()
        session = await house.start("trip")
        await house.until_asked(session)
        await house.holdfast.abort(session, by="ann")
        await house.until_claimed("release")
        (unwind,) = await children(house, session)
        await house.handle(session).terminate()
        gate.unlink()
        result = await asyncio.wait_for(house.handle(unwind).result(), 20)
        assert result["undone"] == ["2.1 reserve", "1.1 reserve"]
        assert await sagas(house) == ["ABORTED"]


@pytest.mark.golden
async def test_a_temporal_cancel_undoes_the_open_request(open_house, config: str, runs: Runs) -> None:
    async with open_house(RESERVE_AND_PAY, config=config) as house:
        session = await house.start("trip")
        await house.until_asked(session)
        await house.handle(session).cancel()
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(house.handle(session).result(), 45)
        await house.until(session, "aborted")
        assert runs()[-2:] == ["release bed", "release seat"]
        assert await reason(house, session) == "cancelled; undone: 2.1 reserve, 1.1 reserve; nothing stands"


@pytest.mark.golden
async def test_a_request_that_fails_is_undone(open_house, config: str, runs: Runs) -> None:
    async with open_house(RESERVE_AND_FAIL, config=config) as house:
        session = await house.start("trip")
        told = await idle_because(house, session, "undone")
        assert told.endswith("; undone: 1.1 reserve; nothing stands")
        assert runs() == ["reserve seat", "release seat"]
        assert await sagas(house) == ["ABORTED"]


@pytest.mark.golden
async def test_an_exhausted_budget_undoes_before_the_last_turn_which_tells_it(
    open_house, config: str, runs: Runs
) -> None:
    limited = config.replace("parallel_calls = 4", "turns = 2")
    async with open_house(RESERVE_AND_PAY, config=limited) as house:
        session = await house.start("trip")
        result = await asyncio.wait_for(house.holdfast.result(session), 20)
        assert result.reason.endswith("undone: 2.1 reserve, 1.1 reserve; nothing stands")
        assert (result.status, result.turns) == ("completed", 3)
        assert runs()[-2:] == ["release bed", "release seat"]
        assert "undone: 2.1 reserve, 1.1 reserve; nothing stands" in last_request(house)
        assert await sagas(house) == ["ABORTED", "COMMITTED"]


@pytest.mark.golden
async def test_a_policy_that_keeps_commits_what_an_aborted_request_did(open_house, config: str, runs: Runs) -> None:
    async with open_house(RESERVE_AND_PAY, config=config + POLICY.format("keep")) as house:
        session = await house.start("trip")
        await house.until_asked(session)
        await house.holdfast.abort(session, by="ann")
        assert await idle_because(house, session, "aborted") == "aborted by ann; policy keeps what was done"
        assert by_turn(runs()) == ["look roof", "reserve seat", "reserve bed"]
        assert await sagas(house) == ["COMMITTED"]
        assert await children(house, session) == []


@pytest.mark.golden
async def test_a_policy_that_asks_leaves_an_aborted_request_to_a_person(
    open_house, config: str, runs: Runs
) -> None:
    async with open_house(RESERVE_AND_PAY, config=config + POLICY.format("ask")) as house:
        session = await house.start("trip")
        await house.until_asked(session)
        await house.holdfast.abort(session, by="ann")
        await idle_because(house, session, "until a person says whether to undo or keep it")
        assert by_turn(runs()) == ["look roof", "reserve seat", "reserve bed"]
        (saga,) = await house.rows("SELECT state, reason FROM holdfast.saga")
        assert (saga["state"], saga["reason"]) == ("HELD", "policy asks: undo or keep?")
        assert await children(house, session) == []


@pytest.mark.parametrize("command", ["interrupt", "close_session"])
async def test_interrupting_and_closing_keep_what_was_done(
    open_house, config: str, runs: Runs, command: str
) -> None:
    async with open_house(RESERVE_AND_PAY, config=config) as house:
        session = await house.start("trip")
        await house.until_asked(session)
        await getattr(house.holdfast, command)(session, by="ann")
        await house.until(session, "idle" if command == "interrupt" else "completed")
        assert by_turn(runs()) == ["look roof", "reserve seat", "reserve bed"]
        assert await sagas(house) == ["COMMITTED"]
        assert await children(house, session) == []


async def test_a_request_that_changed_nothing_starts_nothing_when_it_is_aborted(open_house, config: str) -> None:
    only_asks = RESERVE_AND_PAY.replace("{tool: reserve, input: {what: seat}}, ", "").replace(
        "  - calls: [{tool: reserve, input: {what: bed}}]\n", ""
    )
    async with open_house(only_asks, config=config) as house:
        session = await house.start("trip")
        await house.until_asked(session)
        await house.holdfast.abort(session, by="ann", reason="no")
        assert await idle_because(house, session, "aborted") == "aborted by ann: no"
        assert await sagas(house) == ["ABORTED"]
        assert await children(house, session) == []


@pytest.mark.golden
async def test_a_model_that_gives_up_is_told_what_was_undone_and_goes_on_in_another_saga(
    open_house, config: str, runs: Runs
) -> None:
    async with open_house(GIVE_UP, config=config) as house:
        session = await house.start("give up")
        await house.until(session, "idle")
        # the write beside `abort_request` never ran, the read did; what came afterwards stands
        assert runs() == ["reserve seat", "look roof", "release seat", "reserve letter"]
        assert await sagas(house) == ["ABORTED", "COMMITTED"]
        results = [
            block
            for message in house.model.requests[-1].body["messages"]
            if isinstance(message["content"], list)
            for block in message["content"]
            if block["type"] == "tool_result"
        ]
        beside, aborted, looked = results[1:4]
        assert "`abort_request` was called in the same turn" in beside["content"]
        assert aborted["content"] == "Undone: 1.1 reserve; nothing stands."
        assert "is_error" not in aborted
        assert "roof is fine" in json.dumps(looked["content"])


async def test_a_model_that_gives_up_before_it_changed_anything_hears_that(open_house, config: str) -> None:
    early = GIVE_UP.replace("  - calls: [{tool: reserve, input: {what: seat}}]\n", "")
    async with open_house(early, config=config) as house:
        session = await house.start("give up")
        await house.until(session, "idle")
        assert "changed nothing, so there was nothing to undo" in last_request(house)
        assert await sagas(house) == ["COMMITTED"]
        assert await children(house, session) == []


async def test_an_effect_nobody_knows_of_is_named_and_left_to_a_person(open_house, config: str) -> None:
    tells = config + '\n[agents.default.policy]\non_unknown = "tell"\n'
    async with open_house(LOSE_AND_GIVE_UP, config=tells) as house:
        session = await house.start("lose")
        await house.until(session, "idle")
        (saga, _) = await sagas(house)
        assert saga == "HELD"
        assert "Nothing was undone; still standing: 1.1 lost" in last_request(house)
        assert "it waits for a person: nobody knows whether 1.1 lost happened" in last_request(house)


async def test_a_session_that_is_terminated_while_it_rests_leaves_nothing_to_undo(
    open_house, config: str, runs: Runs
) -> None:
    async with open_house(RESERVE, config=config) as house:
        session = await house.start("reserve")
        await house.until(session, "idle")
        await house.handle(session).terminate()
        assert await sagas(house) == ["COMMITTED"]
        assert runs() == ["reserve seat"]


def test_what_became_of_a_saga_is_one_sentence() -> None:
    def said(outcome: SagaState, **known: object) -> str:
        return in_words(UnwindResult.model_validate({"outcome": outcome, **known}))

    assert said(SagaState.ABORTED) == "nothing was undone; nothing stands"
    waived = said(SagaState.ABORTED, undone=["2.1 hold"], standing=["1.1 pay"])
    assert waived == "undone: 2.1 hold; still standing, as a person decided: 1.1 pay"
    stuck = said(SagaState.STUCK, undone=["2.1 hold"], standing=["1.1 pay"], reason="no refunds")
    assert stuck == "undone: 2.1 hold; still standing: 1.1 pay; it waits for a person: no refunds"
    assert "it is tried again" in said(SagaState.UNWINDING, reason="terminated")
