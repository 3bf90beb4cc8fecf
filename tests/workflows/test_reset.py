"""A workflow reset to an earlier moment: what is recorded is answered from its row, and the session goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, ResetReapplyExcludeType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest

from holdfast_ledger.saga_records import Resolving, SagaResolution
from holdfast_workflows import attributes
from tests.conftest import House
from tests.waiting import until
from tests.workflows.conftest import Runs
from tests.workflows.scenarios import LOSE, PAY, RESERVE

UPDATES = ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE
Forgotten = Sequence[ResetReapplyExcludeType.ValueType]


async def tasks(house: House, session: str) -> list[int]:
    """Event ids to which the session's current run can be reset."""
    completed = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    return [event.event_id for event in await house.history(session) if event.event_type == completed]


async def reset(house: House, session: str, to: int, *, forget: Forgotten = ()) -> None:
    """Let Temporal run the session again from this event. `forget`: what came after it is not delivered again."""
    run_id = (await house.handle(session).describe()).run_id
    await house.temporal.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=house.temporal.namespace,
            workflow_execution=WorkflowExecution(workflow_id=session, run_id=run_id),
            reason="a test",
            workflow_task_finish_event_id=to,
            request_id=f"reset-{run_id}",
            reset_reapply_exclude_types=forget,
        )
    )


async def until_shown(house: House, session: str, status: str) -> None:
    """Wait for what the current run says of itself: the ledger still tells of the run before."""

    async def told() -> bool:
        return await shown(house, session) == status

    await until(told, f"{session} to be {status}", within=20)


async def shown(house: House, session: str) -> str | None:
    return (await house.handle(session).describe()).typed_search_attributes.get(attributes.STATUS)


async def test_from_wherever_it_is_reset_a_session_pays_no_answer_and_runs_no_effect_twice(
    open_house, config: str, runs: Runs
) -> None:
    async with open_house(PAY, config=config) as house:
        session = await house.start("pay")
        asked = await house.until_asked(session)
        await house.holdfast.decide(session, "1.1", approve=True, digest=asked["digest"], by="bob")
        await until_shown(house, session, "idle")
        number = 0
        while number < len(points := await tasks(house, session)):  # each run has its own
            await reset(house, session, points[number])
            await until_shown(house, session, "idle")
            number += 1
        assert (house.model.count, runs()) == (2, ["pay 500"])
        await house.holdfast.send(session, "hello", by="ann")
        await house.model.received(3)
        await house.until(session, "idle")


async def test_a_call_that_is_asked_about_again_after_a_reset_waits_for_one_decision(
    open_house, config: str, runs: Runs
) -> None:
    async with open_house(PAY, config=config) as house:
        session = await house.start("pay")
        asked = await house.until_asked(session)
        await reset(house, session, (await tasks(house, session))[0])
        await until_shown(house, session, "waiting")
        await house.holdfast.decide(session, "1.1", approve=True, digest=asked["digest"], by="bob")
        await until_shown(house, session, "idle")
        assert (house.model.count, runs()) == (2, ["pay 500"])


async def test_messages_that_come_again_after_a_reset_are_answered_from_their_rows(
    open_house, config: str, runs: Runs
) -> None:
    async with open_house(RESERVE, config=config) as house:
        session = await house.start("hello")
        await until_shown(house, session, "idle")
        begin = (await tasks(house, session))[-1]
        await house.holdfast.send(session, "reserve", by="ann")
        await house.model.received(3)
        await house.until(session, "idle")
        await reset(house, session, begin)
        await house.holdfast.send(session, "hello", by="ann", message_id="new")
        await house.model.received(4)
        await house.until(session, "idle")
        assert runs() == ["reserve seat"]
        said = [str(message["content"]) for message in house.model.requests[-1].body["messages"]]
        assert any("reserve" in each for each in said)


@pytest.mark.parametrize(("what", "then"), [("keep", []), ("unwind", ["release seat"])])
async def test_what_stands_on_a_branch_that_a_reset_left_is_held_for_a_person_to_keep_or_undo(
    open_house, config: str, runs: Runs, what: Resolving, then: list[str]
) -> None:
    async with open_house(RESERVE, config=config) as house:
        session = await house.start("hello")
        await until_shown(house, session, "idle")
        begin = (await tasks(house, session))[-1]
        await house.holdfast.send(session, "reserve", by="ann")
        await house.model.received(3)
        await house.until(session, "idle")
        await reset(house, session, begin, forget=(UPDATES,))
        await house.holdfast.send(session, "hello", by="ann", message_id="new")
        await until_shown(house, session, "held")

        (left,) = await house.rows("SELECT id, reason FROM holdfast.saga WHERE state = 'HELD'")
        assert left["id"].startswith(f"{session}/left-2-")
        assert left["reason"] == "a reset of the session left a branch on which 2.1 reserve stand"
        assert house.model.count == 3, "nothing was asked on the new branch"
        await house.holdfast.look_again(session, by="ann", reason="let it go on")
        await until_shown(house, session, "held")

        resolution = SagaResolution(
            id="r1", session_id=session, saga_id=left["id"], what=what, by="ann", reason="looked"
        )
        await house.holdfast.resolve_saga(resolution)
        if what == "unwind":
            assert (await house.holdfast.unwind_result(left["id"])).undone == ("2.1 reserve",)
        await house.holdfast.look_again(session, by="ann", reason="let it go on")
        await house.model.received(4)
        await until_shown(house, session, "idle")
        assert runs() == ["reserve seat", *then]
        said = [str(message["content"]) for message in house.model.requests[-1].body["messages"]]
        assert not any("reserve" in each for each in said), "the new branch knows nothing of the other"


async def test_a_session_that_ended_ends_again_from_its_rows(open_house, config: str, runs: Runs) -> None:
    async with open_house(RESERVE, config=config) as house:
        session = await house.start("reserve", close_when_idle=True)
        await house.until(session, "completed")
        await reset(house, session, (await tasks(house, session))[1])
        result = await asyncio.wait_for(house.holdfast.result(session), 20)
        assert (result.status, house.model.count, runs()) == ("completed", 2, ["reserve seat"])


async def test_a_dead_session_that_was_swept_lives_again_when_it_is_reset(open_house, config: str) -> None:
    async with open_house(RESERVE, config=config) as house:
        session = await house.start("reserve")
        await house.until(session, "idle")
        await house.handle(session).terminate("by a test")
        assert (await house.holdfast.sweep()).ended == (session,)
        await reset(house, session, (await tasks(house, session))[-1])
        await house.holdfast.send(session, "hello", by="ann")
        await house.until(session, "idle")
        (row,) = await house.rows("SELECT ended_at, turns FROM holdfast.session")
        assert (row["ended_at"], row["turns"]) == (None, 3)
        assert (await house.holdfast.sweep()).ended == ()


async def test_a_doubt_stays_a_doubt_and_what_a_person_said_stays_said(open_house, config: str, runs: Runs) -> None:
    async with open_house(LOSE, config=config) as house:
        session = await house.start("lose")
        await house.until(session, "held")
        begin = (await tasks(house, session))[1]
        await reset(house, session, begin)
        await until_shown(house, session, "held")
        (effect,) = await house.rows("SELECT effect_id FROM holdfast.effect WHERE state = 'UNKNOWN'")
        await house.holdfast.resolve(
            effect["effect_id"], outcome="happened", by="ann", reason="the parcel is there"
        )
        await until_shown(house, session, "idle")
        await reset(house, session, begin, forget=(UPDATES,))
        await until_shown(house, session, "idle")
        assert (house.model.count, runs()) == (2, ["lost parcel"])
