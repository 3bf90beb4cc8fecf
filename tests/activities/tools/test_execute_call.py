"""One call through the effect protocol: who may run, what is told to the tool, what is recorded."""

from __future__ import annotations

import json

import pytest
from temporalio.exceptions import ApplicationError

from holdfast.contracts import Authorization
from holdfast.states import CallStatus, EffectState
from tests.activities.tools.conftest import Bench, Service


async def test_a_call_runs_once_however_often_it_is_asked_for(bench: Bench, service: Service) -> None:
    call = await bench.plan("pay", path="ok")

    first = await bench.run(call)
    second = await bench.run(call, attempt=2)

    assert first == second
    assert (first.status, first.size) == (CallStatus.OK, len(b'{"done":true}'))
    assert service.effects == {call.effect_id: 1}


async def test_the_service_gets_the_key_and_the_trace(bench: Bench, service: Service) -> None:
    call = await bench.plan("pay", path="ok")

    await bench.run(call)

    _, _, headers = service.requests[0]
    assert headers["idempotency-key"] == call.effect_id
    assert headers["traceparent"].startswith("00-1111")


async def test_a_busy_effect_is_waited_for(bench: Bench, service: Service) -> None:
    call = await bench.plan("pay", path="ok")
    await bench.conversation.grant(call)

    with pytest.raises(ApplicationError) as raised:
        await bench.run(call)

    assert raised.value.type == "EffectBusy"
    assert raised.value.next_retry_delay is not None
    assert raised.value.next_retry_delay.total_seconds() > 10
    assert not service.effects


async def test_a_disabled_tool_never_runs_and_leaves_nothing_open(bench: Bench, service: Service) -> None:
    call = await bench.plan("pay", path="ok")
    await bench.conversation.owner.execute(
        "INSERT INTO holdfast.kill_switch (tool, reason, disabled_by) VALUES ('pay', 'an incident', 'ana')"
    )

    outcome = await bench.run(call)

    assert outcome.status is CallStatus.DENIED
    assert outcome.text
    assert "disabled by ana: an incident" in outcome.text
    assert (await bench.effect(call))["state"] == "CANCELLED"
    assert await bench.run(call, attempt=2) == outcome
    assert not service.effects


async def test_a_decision_that_was_never_made_runs_nothing(bench: Bench, service: Service) -> None:
    call = await bench.plan("pay", path="ok")
    authorization = Authorization(verdict="allow", rule="tier:irreversible", decision="made-up")

    outcome = await bench.run(call, authorization=authorization)

    assert outcome.status is CallStatus.DENIED
    assert not service.effects


async def test_a_closed_saga_runs_nothing(bench: Bench, service: Service) -> None:
    call = await bench.plan("pay", path="ok")
    await bench.conversation.owner.execute("UPDATE holdfast.saga SET state = 'ABORTED'")

    for attempt in (1, 2):
        assert (await bench.run(call, attempt=attempt)).status is CallStatus.CANCELLED
    assert not service.effects


@pytest.mark.parametrize("changes", [{"head": "f" * 64}, {"digest": "f" * 64}, {"session_id": "another"}])
async def test_a_ledger_that_does_not_know_the_call_holds_the_session(
    bench: Bench, service: Service, changes: dict[str, str]
) -> None:
    call = await bench.plan("pay", path="ok")

    outcome = await bench.run(call, **changes)

    assert outcome.held
    assert not service.effects


async def test_an_unknown_catalogue_holds_the_session(bench: Bench) -> None:
    call = await bench.plan("pay", path="ok")

    assert (await bench.run(call, catalogue="f" * 64)).held


async def test_the_undo_is_recorded_with_what_it_needs(bench: Bench) -> None:
    call = await bench.plan("hold", path="hold_id")

    outcome = await bench.run(call)

    row = await bench.effect(call)
    assert (row["undo_tool"], row["undo_version"], json.loads(row["undo_args"])) == (
        "release",
        "1",
        {"hold_id": "HLD-1"},
    )
    assert float(outcome.usd or 0) == 0.05


async def test_an_undo_that_cannot_be_made_is_evidence_and_no_error(bench: Bench) -> None:
    call = await bench.plan("hold", path="other_field")

    outcome = await bench.run(call)

    assert outcome.status is CallStatus.OK
    row = await bench.effect(call)
    assert row["undo_tool"] is None
    evidence = await bench.conversation.owner.fetchval(
        "SELECT evidence FROM holdfast.attempt WHERE effect_id = $1", call.effect_id
    )
    assert json.loads(evidence)["undo_error"] == "KeyError"


async def test_a_secret_is_read_only_from_the_list(bench: Bench) -> None:
    known = await bench.run(await bench.plan("secret_reader", path="DESK_TOKEN"))
    unknown = await bench.run(await bench.plan("secret_reader", path="HOME"))

    assert known.status is CallStatus.OK
    assert unknown.status is CallStatus.ERROR
    assert unknown.text
    assert "no secret `HOME`" in unknown.text


async def test_each_attempt_is_reported_without_argument_values(bench: Bench) -> None:
    call = await bench.plan("pay", path="status/200")

    await bench.run(call)

    (report,) = bench.reports
    assert (report.tool, report.outcome, report.settled, report.attempt) == ("pay", "done", True, 1)
    assert report.argument_keys == ("path",)
    assert "status/200" not in str(report)


async def test_a_tool_this_worker_lost_waits_for_another_worker_until_the_budget_ends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await bench.plan("pay", path="ok")
    bench.book._by_card.clear()  # as in a worker that has just started
    monkeypatch.delattr("effect_tools.pay")

    for _ in range(2):
        with pytest.raises(ApplicationError):
            await bench.run(call)
    outcome = await bench.run(call)

    assert (outcome.status, outcome.code) == (CallStatus.ERROR, "transient")
    assert (await bench.effect(call))["state"] == EffectState.FAILED
