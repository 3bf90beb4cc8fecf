"""The trace context that a client's messages carry into history."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from holdfast.messages import Send
from holdfast_workers.client import Holdfast

CALLER = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
OTHER = {"traceparent": "00-11111111111111111111111111111111-2222222222222222-01"}


async def first_message(client: Holdfast, session_id: str) -> Send:
    history = await client.temporal.get_workflow_handle(session_id).fetch_history()
    started = history.events[0].workflow_execution_started_event_attributes
    return Send.model_validate(json.loads(started.input.payloads[0].data)["send"])


@pytest.mark.parametrize(
    ("around", "given", "carried"),
    [({}, None, {}), (CALLER, None, CALLER), (CALLER, OTHER, OTHER), (CALLER, {}, {})],
)
async def test_a_start_carries_the_callers_trace_else_that_of_its_surroundings(
    open_house, around: Mapping[str, str], given: Mapping[str, str] | None, carried: Mapping[str, str]
) -> None:
    async with open_house(work=False) as house:
        client = Holdfast(house.temporal, house.holdfast.ledger, trace=around)
        started = await client.start("hello", trace=given)
        assert (await first_message(client, started.session_id)).trace == carried


async def test_another_trace_does_not_make_it_another_start(open_house) -> None:
    async with open_house(work=False) as house:
        first = await house.holdfast.start("hello", trace=CALLER)
        again = await house.holdfast.start("hello", session_id=first.session_id, trace=OTHER)
        assert first.fresh
        assert not again.fresh
        assert (await first_message(house.holdfast, first.session_id)).trace == CALLER
