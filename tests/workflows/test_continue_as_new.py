"""A session continues as new between and inside long requests, and nobody notices: not its people, not its saga."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from holdfast.budget import Spend, TighterLimits
from holdfast.contracts import Authorization, Call, Results, SagaRef, SessionPlan, UserMessage
from holdfast.facts import Fact, Kind
from holdfast.messages import Command, Decide, Principal, Receipt, Resolve, Send
from holdfast.states import EffectState, SessionStatus
from holdfast_ledger.watching import Told
from holdfast_workers.client import Rejected
from holdfast_workers.converter import data_converter
from holdfast_workers.sending import Delivered
from holdfast_workflows.state import Ask, Compensation, OpenCall, OpenRequest, OpenTurn, SessionState
from tests.conftest import House
from tests.waiting import until
from tests.workflows.conftest import Runs

NOW = datetime(2030, 3, 12, tzinfo=UTC)

LOOK_AND_PAY = """
name: look-and-pay
description: Look around, pay, and look around again.
example: pay
match: pay
turns:
  - calls: [{tool: look, input: {what: roof}}]
    repeat: 6
  - calls: [{tool: pay, input: {cents: 500}}]
  - calls: [{tool: look, input: {what: cellar}}]
    repeat: 6
  - text: "{{ outcome.pay }}"
"""

RESERVE_AND_LOOK = """
name: reserve-and-look
description: Reserve, look around for long, and ask.
example: trip
match: trip
turns:
  - calls: [{tool: reserve, input: {what: seat}}]
  - calls: [{tool: look, input: {what: roof}}]
    repeat: 6
  - calls: [{tool: pay, input: {cents: 500}}]
  - text: never
"""


IN_DOUBT = """
name: lose
description: Look around, and lose a connection.
example: lose
match: lose
turns:
  - calls: [{tool: look, input: {what: roof}}]
    repeat: 3
  - calls: [{tool: lost, input: {what: parcel}}]
  - text: "lost: {{ outcome.lost }}"
"""


async def newer_run(house: House, session: str, than: str) -> bool:
    return (await house.handle(session).describe()).run_id != than


async def test_a_session_continues_as_new_with_an_effect_in_doubt_and_nothing_is_sent_again(
    open_house, impatient_temporal: str, config: str, runs: Runs
) -> None:
    async with open_house(IN_DOUBT, config=config, temporal_address=impatient_temporal) as house:
        session = await house.start("lose")
        await house.until(session, "held")
        [doubtful] = await house.holdfast.reader.effects(states=[EffectState.UNKNOWN])
        first = await house.handle(session).describe()
        sent = 0
        while not await newer_run(house, session, first.run_id):
            await house.holdfast.send(session, "hello", by="ann", message_id=f"m{(sent := sent + 1)}")
        await house.until(session, "held")

        await house.holdfast.resolve(doubtful.effect_id, outcome="happened", by="bob", reason="it is there")
        with pytest.raises(Rejected):
            await house.holdfast.resolve(doubtful.effect_id, outcome="did_not_happen", by="bob")
        await house.until(session, "idle")
        assert "it is there" in json.dumps(house.model.requests[-1].body["messages"])
        await house.holdfast.close_session(session, by="ann")
        result = await asyncio.wait_for(house.holdfast.result(session), 30)
        assert result.status == "completed"
        assert runs().count("lost parcel") == 1
        assert (await house.holdfast.reader.effect(doubtful.effect_id)).state is EffectState.DONE


async def test_ids_queue_approval_and_a_watcher_are_carried_over_each_continue_as_new(
    open_house, impatient_temporal: str, config: str, runs: Runs
) -> None:
    async with open_house(LOOK_AND_PAY, config=config, temporal_address=impatient_temporal) as house:
        holdfast = house.holdfast
        session = await house.start("pay", limits=TighterLimits(turns=25))
        watched: list[int] = []
        watching = asyncio.create_task(watch_to_the_end(house, session, watched))

        async def send() -> Delivered:
            return await holdfast.send(session, "hello", by="ann", message_id="more")

        async def decide() -> Delivered:
            return await holdfast.decide(
                session, asked["call"], approve=True, digest=asked["digest"], by="bob", decision_id="yes"
            )

        sent, first = await send(), await house.handle(session).describe()
        asked = await house.until_asked(session)
        assert sent.how == "queued"
        assert await newer_run(house, session, first.run_id), "it continued as new inside the request"
        assert await send() == sent

        decided, second = await decide(), await house.handle(session).describe()
        await until(lambda: newer_run(house, session, second.run_id), "the next run", within=20)
        assert (await send(), await decide()) == (sent, decided)
        await house.until(session, "idle")
        assert (await send(), await decide()) == (sent, decided)
        await holdfast.close_session(session, by="ann")
        assert (await asyncio.wait_for(holdfast.result(session), 30)).turns == 15, "`hello` was answered once"
        assert runs().count("pay 500") == 1
        await asyncio.wait_for(watching, 20)
        assert watched == list(range(1, len(await house.entries(session)) + 1))


async def watch_to_the_end(house: House, session: str, seen: list[int]) -> None:
    async for event in house.holdfast.ledger.watch(session):
        if isinstance(event, Told):
            seen.append(event.entry.seq)
            if event.entry.kind == "session_closed":
                return


def test_every_field_of_a_session_survives_the_payload_it_is_carried_in() -> None:
    """Early decisions, doubts, facts not told yet: whatever a session holds at that moment."""
    call = OpenCall(
        number="1.1",
        call=Call(tool_use_id="t", tool="pay", digest="d", facts={"amount": 5}, args={"a": [1]}),
        ask=Ask(asked_at=NOW, expires_at=NOW, question=True),
        authorization=Authorization(verdict="allow", rule="tier", use_within=timedelta(minutes=1)),
        unknown="lost",
        lost=1,
    )
    turn = OpenTurn(number=1, head="h", calls=[call])
    resolve = Resolve(id="r", call="1.1", happened=True)
    state = SessionState(
        principal=Principal(requested_by="ann", roles=("a",), labels={"l": "v"}),
        agent="clerk",
        limits=TighterLimits(turns=3),
        started_at=NOW,
        plan=SessionPlan(catalogue="c", summarise_above=9),
        head="h",
        spend=Spend(usd=None, lost_attempts=1),
        queue=[Send(id="q", text="later", steer=True)],
        incoming=[UserMessage(id="m", digest="d"), Results(turn=1, turn_head="h", calls=())],
        context=5,
        summed_up=0,
        request=OpenRequest(number=1, saga=SagaRef(id="s", epoch=2), turn=turn, may_stand=True, cut_at_window=True),
        compensations=[Compensation(call="1.1", undo="refund")],
        early=[Decide(id="e", call="2.1", digest="d", approve=False)],
        outbox=[Fact(key="k", kind=Kind.APPROVAL_ASKED, at=NOW, body={"x": 1})],
        receipts={"i": Receipt(id="i", accepted="kept")},
        interrupt=Command(id="c", by="bob"),
        resolved=[resolve],
        foretold=[resolve],
        status=SessionStatus.WAITING,
    )
    converter = data_converter.payload_converter
    (carried,) = converter.from_payloads(converter.to_payloads([state]), [SessionState])
    assert carried == state


async def test_an_abort_undoes_what_the_request_did_before_it_continued_as_new(
    open_house, impatient_temporal: str, config: str, runs: Runs
) -> None:
    async with open_house(RESERVE_AND_LOOK, config=config, temporal_address=impatient_temporal) as house:
        session = await house.start("trip")
        first = await house.handle(session).describe()
        asked = await house.until_asked(session)
        assert await newer_run(house, session, first.run_id), "it continued as new with its saga open"
        await house.holdfast.abort(session, by="ann")
        await house.until(session, "idle")
        assert [run for run in runs() if not run.startswith("look")] == ["reserve seat", "release seat"]
        assert [row["state"] for row in await house.rows("SELECT state FROM holdfast.saga")] == ["ABORTED"]
        assert asked["tool"] == "pay", "which never ran"
