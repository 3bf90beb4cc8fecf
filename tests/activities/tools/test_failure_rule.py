"""What each way to fail means for each recovery class: only a known clean failure is FAILED."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from temporalio.exceptions import ApplicationError

from holdfast.contracts import CallOutcome
from holdfast.states import CallStatus
from tests.activities.tools.conftest import Bench, Service

IN_DOUBT = ("status/429", "status/500", "drop", "stall", "boom", "second-refused")

FAILED, OPEN, DOUBT, UNKNOWN = "FAILED", "OPEN", "OPEN in doubt", "UNKNOWN"
MEANS = {
    "look": {
        "refuse": FAILED,
        "unavailable": OPEN,
        "nobody": OPEN,
        "status/422": FAILED,
        "boom": FAILED,
        "status/429": OPEN,
        "status/500": OPEN,
        "drop": OPEN,
        "stall": OPEN,
        "second-refused": OPEN,
    },
    "pay_blindly": {
        "refuse": FAILED,
        "unavailable": OPEN,
        "nobody": OPEN,
        "status/422": FAILED,
        **dict.fromkeys(IN_DOUBT, UNKNOWN),
    },
    "pay": {
        "refuse": FAILED,
        "unavailable": OPEN,
        "nobody": OPEN,
        "status/422": FAILED,
        **dict.fromkeys(IN_DOUBT, DOUBT),
    },
    "pay_and_ask": {
        "refuse": FAILED,
        "unavailable": OPEN,
        "nobody": OPEN,
        "status/422": FAILED,
        **dict.fromkeys(IN_DOUBT, DOUBT),
    },
}


async def _end_of_one_attempt(bench: Bench, tool: str, path: str) -> str:
    call = await bench.plan(tool, path=path)
    (ended,) = await asyncio.gather(bench.run(call), return_exceptions=True)
    row = await bench.effect(call)
    match ended:
        case ApplicationError() as retry:
            assert row["state"] == "OPEN"
            assert retry.next_retry_delay
            assert not retry.non_retryable
        case CallOutcome() as outcome:
            assert outcome.status is (CallStatus.UNKNOWN if row["state"] == UNKNOWN else CallStatus.ERROR)
        case unexpected:
            raise AssertionError(unexpected)
    return row["state"] + (" in doubt" if row["doubt"] else "")


@pytest.mark.parametrize("tool", MEANS)
async def test_one_attempt_ends_as_its_class_permits(bench: Bench, tool: str) -> None:
    ends = {path: await _end_of_one_attempt(bench, tool, path) for path in MEANS[tool]}

    assert ends == MEANS[tool]


async def test_a_write_that_used_up_its_attempts_cleanly_has_failed(bench: Bench) -> None:
    call = await bench.plan("pay", path="nobody")

    for _ in range(2):
        with pytest.raises(ApplicationError):
            await bench.run(call)
    outcome = await bench.run(call)

    assert (outcome.status, outcome.code) == (CallStatus.ERROR, "transient")
    assert outcome.text
    assert "cannot be reached" in outcome.text
    assert (await bench.effect(call))["state"] == "FAILED"


async def test_a_doubt_outlives_later_clean_failures(bench: Bench, service: Service) -> None:
    call = await bench.plan("pay", path="drop")
    with pytest.raises(ApplicationError):
        await bench.run(call)
    await bench.conversation.owner.execute(
        "UPDATE holdfast.effect SET args = $1 WHERE effect_id = $2", b'{"path":"nobody"}', call.effect_id
    )
    with pytest.raises(ApplicationError):
        await bench.run(call)

    outcome = await bench.run(call)

    assert service.effects[call.effect_id] == 1
    assert outcome.status is CallStatus.UNKNOWN
    assert (await bench.effect(call))["state"] == "UNKNOWN"


async def test_the_same_key_is_sent_again_after_a_doubt(bench: Bench, service: Service) -> None:
    call = await bench.plan("pay", path="drop")
    for _ in range(2):
        with pytest.raises(ApplicationError):
            await bench.run(call)

    assert service.effects == {call.effect_id: 2}


async def test_an_unknown_write_is_never_sent_again(bench: Bench, service: Service) -> None:
    call = await bench.plan("pay_blindly", path="drop")

    first = await bench.run(call)
    second = await bench.run(call, attempt=2)

    assert first.status is second.status is CallStatus.UNKNOWN
    assert service.effects[call.effect_id] == 1


@pytest.mark.parametrize(
    ("said", "state", "effects"),
    [("landed", "DONE", 1), ("never", "OPEN", 2), ("not yet", "OPEN", 1), ("no idea", "OPEN", 1)],
)
async def test_only_a_final_no_of_the_probe_permits_another_send(
    bench: Bench, service: Service, said: str, state: str, effects: int
) -> None:
    service.probe_says = said
    call = await bench.plan("pay_and_ask", path="drop")
    with pytest.raises(ApplicationError):
        await bench.run(call)

    if said == "landed":
        assert (await bench.run(call)).status is CallStatus.OK
    else:
        with pytest.raises(ApplicationError):
            await bench.run(call)

    assert (await bench.effect(call))["state"] == state
    assert service.effects.total() == effects


async def test_after_a_final_no_another_key_is_sent_and_asked_about(bench: Bench, service: Service) -> None:
    """The service refuses the first one for good: with it the call could never happen any more."""
    service.probe_says = "never"
    call = await bench.plan("pay_and_ask", path="drop")
    for _ in range(2):
        with pytest.raises(ApplicationError):
            await bench.run(call)
    service.probe_says = "landed"

    outcome = await bench.run(call)

    assert outcome.status is CallStatus.OK
    assert service.effects == {call.effect_id: 1, f"{call.effect_id}:1": 1}
    probes = [path for _, path, _ in service.requests if path.startswith("/probe/")]
    assert probes == [f"/probe/{call.effect_id}", f"/probe/{call.effect_id}:1"]


async def test_the_wait_a_service_asks_for_is_honoured(bench: Bench) -> None:
    call = await bench.plan("look", path="status/429")

    with pytest.raises(ApplicationError) as raised:
        await bench.run(call)

    assert raised.value.next_retry_delay is not None
    assert raised.value.next_retry_delay.total_seconds() == 7


async def test_a_bug_reaches_the_model_as_a_reference_and_never_as_its_message(bench: Bench) -> None:
    call = await bench.plan("look", path="boom")

    outcome = await bench.run(call)

    assert outcome.code == "internal"
    assert outcome.text
    assert "reference" in outcome.text
    assert "4929" not in outcome.text
    evidence = await bench.conversation.owner.fetchval(
        "SELECT evidence FROM holdfast.attempt WHERE effect_id = $1", call.effect_id
    )
    assert b"4929" not in evidence
    assert b"KeyError" in evidence


@pytest.mark.parametrize(
    ("path", "state", "rows"), [("hello", "DONE", 1), ("refuse", "FAILED", 0), ("boom", "FAILED", 0)]
)
async def test_a_transactional_tools_rows_stand_or_fall_with_its_record(
    bench: Bench, owner: asyncpg.Connection, path: str, state: str, rows: int
) -> None:
    await owner.execute("CREATE TABLE notes (body text); GRANT INSERT ON notes TO PUBLIC")
    call = await bench.plan("note", path=path)

    await bench.run(call)

    assert (await bench.effect(call))["state"] == state
    assert await owner.fetchval("SELECT count(*) FROM notes") == rows
