"""A workflow reset to an earlier moment: what is recorded is answered from its row, and the session goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, ResetReapplyExcludeType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest

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


@pytest.mark.parametrize("forget", [(), (UPDATES,)])
async def test_messages_after_a_reset_are_worked_on_whether_or_not_the_old_ones_come_again(
    open_house, config: str, runs: Runs, forget: Forgotten
) -> None:
    async with open_house(RESERVE, config=config) as house:
        session = await house.start("hello")
        await until_shown(house, session, "idle")
        begin = (await tasks(house, session))[-1]
        await house.holdfast.send(session, "reserve", by="ann")
        await house.model.received(3)
        await house.until(session, "idle")
        await reset(house, session, begin, forget=forget)
        await house.holdfast.send(session, "hello", by="ann", message_id="new")
        await house.model.received(4)
        await house.until(session, "idle")
        assert runs() == ["reserve seat"]
        said = [str(message["content"]) for message in house.model.requests[-1].body["messages"]]
        assert any("reserve" in each for each in said) != bool(forget)


async def test_a_session_that_ended_ends_again_from_its_rows(open_house, config: str, runs: Runs) -> None:
    async with open_house(RESERVE, config=config) as house:
        session = await house.start("reserve", close_when_idle=True)
        await house.until(session, "completed")
        await reset(house, session, (await tasks(house, session))[1])
        result = await asyncio.wait_for(house.holdfast.result(session), 20)
        assert (result.status, house.model.count, runs()) == ("completed", 2, ["reserve seat"])


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
