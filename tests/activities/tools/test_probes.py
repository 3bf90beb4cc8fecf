"""Probes: what fails or hangs has said nothing, and the truth settles an effect whenever it comes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from holdfast.config import EffectSettings
from holdfast.contracts import REOPENED, CallOutcome
from holdfast.recovery import DidNotHappen, Inconclusive, Landed, Probe
from holdfast.states import CallStatus
from holdfast.tools import Tool
from holdfast_activities.execute_call import CallExecutions
from holdfast_activities.probe_call import LONGEST_PAUSE, Probings, growing
from holdfast_ledger.database import named_sql
from holdfast_ledger.records import PlannedCall
from tests.activities.tools.conftest import Bench, Service
from tests.conftest import Database


async def raises(ctx: Any, path: str) -> Any:
    raise KeyError("near card 4929")


async def hangs(ctx: Any, path: str) -> Any:
    await asyncio.Event().wait()


def hangs_in_a_thread(ctx: Any, path: str) -> Any:
    while True:
        ctx.heartbeat()


async def babbles(ctx: Any, path: str) -> Any:
    return True


def answers(answer: Any) -> Any:
    async def probe(ctx: Any, path: str) -> Any:
        return answer

    return probe


def with_probe(bench: Bench, call: PlannedCall, probe: Any) -> None:
    """Let the call's tool ask `probe`, within 100 ms."""
    key = next(key for key in bench.book._by_card if key[0] == call.tool)
    declared: Tool = bench.book._by_card[key]
    bench.book._by_card[key] = replace(declared, recovery=Probe(probe, timeout="100ms"))


async def in_doubt(bench: Bench) -> PlannedCall:
    call = await bench.plan("pay_and_ask", path="drop")
    with pytest.raises(ApplicationError):
        await bench.run(call)
    return call


async def unknown(bench: Bench) -> PlannedCall:
    call = await bench.plan("pay_and_ask", path="drop")
    assert (await bench.run(call, attempts=1)).status is CallStatus.UNKNOWN
    return call


async def ask(bench: Bench, call: PlannedCall, *, attempt: int = 1) -> CallOutcome:
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, attempt=attempt)
    probings = Probings(bench.executions.surroundings)
    outcome: CallOutcome = await environment.run(probings.probe_call, bench.request(call))
    return outcome


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        (raises, "KeyError"),
        (hangs, "TimedOut"),
        (hangs_in_a_thread, "TimedOut"),
        (babbles, "answered a bool"),
        (answers(Inconclusive("busy")), "cannot tell"),
        (answers(DidNotHappen()), "did not happen so far"),
    ],
)
async def test_a_probe_that_cannot_tell_sends_nothing_and_ends_unknown(
    bench: Bench, service: Service, probe: Any, said: str
) -> None:
    call = await in_doubt(bench)
    with_probe(bench, call, probe)
    with pytest.raises(ApplicationError):
        await bench.run(call)

    outcome = await bench.run(call)

    assert outcome.status is CallStatus.UNKNOWN
    assert service.effects == {call.effect_id: 1}
    kept = await bench.conversation.owner.fetch("SELECT evidence FROM holdfast.attempt ORDER BY token")
    evidence = [json.loads(row["evidence"] or b"{}") for row in kept]
    assert [said in each.get("probe", "") for each in evidence if each][-2:] == [True, True]
    assert "4929" not in str(evidence)


async def test_an_unknown_effect_is_settled_by_what_its_probe_finds_later(bench: Bench) -> None:
    call = await unknown(bench)
    with_probe(bench, call, raises)
    with pytest.raises(ApplicationError) as raised:
        await ask(bench, call, attempt=3)
    assert raised.value.next_retry_delay == pytest.approx(timedelta(seconds=20), rel=0.6)
    assert (await bench.effect(call))["probe_said"] == "KeyError"
    with_probe(bench, call, answers(Landed({"found": True})))

    outcome = await ask(bench, call)

    row = await bench.effect(call)
    assert (outcome.status, row["state"], json.loads(row["result"])) == (CallStatus.OK, "DONE", {"found": True})
    assert await bench.run(call) == outcome
    assert await ask(bench, call) == outcome


async def test_a_final_no_opens_the_call_again_for_a_claim_of_its_own(bench: Bench, service: Service) -> None:
    call = await unknown(bench)
    with_probe(bench, call, answers(DidNotHappen(final=True)))

    outcome = await ask(bench, call)

    assert (outcome.code, (await bench.effect(call))["state"]) == (REOPENED, "OPEN")
    assert service.effects == {call.effect_id: 1}
    assert (await ask(bench, call)).code == REOPENED


def test_pauses_between_questions_grow_to_a_bound() -> None:
    assert growing(1) < growing(4) < growing(9)
    assert growing(10_000) <= LONGEST_PAUSE


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_workers_clock_an_hour_off_changes_nothing(
    bench: Bench, owner: asyncpg.Connection, service: Service, hours: int
) -> None:
    """Leases are judged on Postgres' clock; the worker's only says when a tool should be done."""
    around = bench.executions.surroundings
    skewed = CallExecutions(
        ledger=around.ledger,
        book=around.book,
        resources=around.resources,
        secrets={},
        worker="skewed",
        now=lambda: datetime.now(UTC) + timedelta(hours=hours),
    )
    bench.executions, right = skewed, bench.executions
    lively = await bench.plan("pay", path="ok")
    await bench.conversation.grant(lively)
    with pytest.raises(ApplicationError, match="at work"):
        await bench.run(lively)
    dead = await bench.plan("pay", path="ok")
    await bench.conversation.grant(dead)
    await bench.conversation.expire_lease(dead)
    assert (await bench.run(dead)).status is CallStatus.OK
    blind = await bench.plan("pay_blindly", path="ok")
    assert (await bench.run(blind)).status is CallStatus.OK
    bench.executions = right
    await skewed.close()
    left = await owner.fetchval(
        "SELECT lease_until - clock_timestamp() FROM holdfast.effect WHERE effect_id = $1", lively.effect_id
    )
    assert timedelta(0) < left <= EffectSettings().lease


async def test_a_call_costs_one_round_trip_before_and_one_after_the_effect(
    bench: Bench, database: Database, service: Service
) -> None:
    await bench.run(await bench.plan("pay", path="ok"))  # the catalogue is read once per worker
    names = {text: name for name, text in named_sql().items()}
    asked: list[tuple[str, int]] = []
    call = await bench.plan("pay", path="ok")
    before = sum(service.effects.values())
    connections = bench.executions.surroundings.ledger.database._connections
    connection = await connections.borrow()
    connection.add_query_logger(
        lambda query: asked.append((names.get(query.query, query.query), sum(service.effects.values())))
    )
    await connections.give_back(connection)  # the one given back last is lent first

    assert (await bench.run(call)).status is CallStatus.OK

    assert asked == [("claim_effect", before), ("record_effect", before + 1)]


@pytest.mark.parametrize("settings", [{"lease": "14s"}, {"renewal": "6s"}, {"renewal": "0s"}])
def test_a_lease_shorter_than_three_renewals_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="renewal"):
        EffectSettings.model_validate(settings)
    assert EffectSettings.model_validate({"lease": "300ms", "renewal": "100ms"}).lease == timedelta(
        milliseconds=300
    )
