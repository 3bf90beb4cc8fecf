"""Attempts that fail, and how a turn ends in spite of them."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from holdfast_activities.turn_attempt import MAX_ATTEMPTS, MAX_ELAPSED
from holdfast_ledger.store import Ledger

from .conftest import environment

SCRIPT = """
name: weather
description: Looks up and answers.
example: the weather please
match: weather
turns:
  - text: I will look at the weather of this city, and then say what I saw.
    calls: [{tool: lookup, input: {city: Paris}}]
"""
PASSING = [
    {"kind": "http_error", "status": 429},
    {"kind": "http_error", "status": 529},
    {"kind": "http_error", "status": 500},
    {"kind": "stall", "seconds": 30, "after_events": 4},
    {"kind": "truncate"},
    {"kind": "truncate", "after_events": 99},
    {"kind": "drop"},
    {"kind": "error_event", "after_events": 4},
]


async def failing(session, request, env=None):
    with pytest.raises(ApplicationError) as caught:
        await session.attempt(request, env)
    return caught.value


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: "-".join(map(str, fault.values())))
async def test_an_attempt_that_failed_is_released_and_the_next_one_answers(start, model, fault):
    session = await start(stall_timeout=0.5)
    request = session.asks("the weather please")
    model.inject(fault)
    error = await failing(session, request)
    assert not error.non_retryable
    assert error.next_retry_delay > timedelta(0)
    assert (await session.row(request, "state"))["state"] == "OPEN"
    result = await session.attempt(request)
    assert result.stop_reason == "tool_use"
    assert [report.outcome for report in session.reports] == ["transient", "done"]
    first, second = model.requests
    assert json.dumps(first.body) == json.dumps(second.body)
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


async def test_a_new_attempt_has_a_new_token_so_that_watchers_begin_again(start, model):
    session = await start()
    request = session.asks("the weather please")
    model.inject({"kind": "drop", "after_events": 6})
    await failing(session, request)
    await session.attempt(request)
    by_token = {token: [c.seq for c in session.chunks.chunks if c.token == token] for token in (1, 2)}
    assert by_token[1][0] == by_token[2][0] == 0
    assert len(by_token[1]) < len(by_token[2])


@pytest.mark.parametrize(("status", "benign"), [(429, True), (529, True), (500, False)])
async def test_a_busy_model_raises_no_alarm(start, model, status, benign):
    session = await start()
    model.inject({"kind": "http_error", "status": status})
    error = await failing(session, session.asks("the weather please"))
    assert (error.category is ApplicationErrorCategory.BENIGN) == benign


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_the_next_attempt_comes_when_the_server_says(start, model, form):
    session = await start()
    model.inject({"kind": "http_error", "status": 429, "retry_after": 40, "retry_after_form": form})
    error = await failing(session, session.asks("the weather please"))
    assert timedelta(seconds=35) < error.next_retry_delay <= timedelta(seconds=51), "and not all at once"


@pytest.mark.parametrize("status", [429, 529])
async def test_a_busy_model_is_left_alone_by_every_worker_until_the_server_says(
    start, model, owner, database, status
):
    second = await Ledger.connect(database.dsn)  # another worker's
    told, other, elsewhere = await start(), await start(ledger=second), await start(model="claude-haiku-4-5")
    request = other.asks("the weather please")
    model.inject({"kind": "http_error", "status": status, "retry_after": 40})
    await failing(told, told.asks("the weather please"))
    for _ in range(MAX_ATTEMPTS + 1):
        error = await failing(other, request)
        assert error.type == "Refused.breaker"
        assert error.category is ApplicationErrorCategory.BENIGN
        assert timedelta(seconds=30) < error.next_retry_delay <= timedelta(seconds=51)
    assert len(model.requests) == 1, "nobody else asked"
    assert (await other.row(request, "attempts_used"))["attempts_used"] == 0
    assert (await elsewhere.says("the weather please")).calls, "another model is asked as ever"
    await owner.execute("UPDATE holdfast.breaker SET open_until = clock_timestamp()")
    assert (await other.attempt(request)).calls
    await second.close()


async def test_an_attempt_whose_cost_nobody_knows_is_recorded_as_such(start, model, ledger):
    session = await start()
    request = session.asks("the weather please")
    model.inject({"kind": "http_error", "status": 500}, {"kind": "truncate"})
    await failing(session, request)
    await failing(session, request)
    async with ledger.transaction() as connection:
        rows = await connection.fetch("SELECT evidence FROM holdfast.attempt ORDER BY token")
    evidence = [json.loads(row["evidence"]) for row in rows]
    assert [each["cost"] for each in evidence] == ["none", "unknown"]
    assert evidence[1]["usage"]["input_tokens"] > 0
    assert evidence[0]["status"] == 500


@pytest.mark.parametrize(
    ("status", "words"),
    [(400, "refused the request"), (401, "set ANTHROPIC_API_KEY"), (404, "`model`"), (413, "too long")],
)
async def test_a_permanent_error_ends_the_turn_and_is_asked_once(start, model, status, words):
    session = await start()
    request = session.asks("the weather please")
    model.inject({"kind": "http_error", "status": status})
    result = await session.attempt(request)
    assert words in result.failed
    assert result.usd == Decimal(0)
    assert await session.attempt(request) == result
    assert model.count == 1
    assert (await session.row(request, "state"))["state"] == "FAILED"


async def test_the_attempt_budget_ends_a_turn_that_never_works(start, model):
    session = await start()
    request = session.asks("the weather please")
    model.inject({"kind": "http_error", "status": 500, "times": MAX_ATTEMPTS})
    for _ in range(MAX_ATTEMPTS - 1):
        await failing(session, request)
    result = await session.attempt(request)
    assert f"given up after {MAX_ATTEMPTS} attempts" in result.failed
    assert await session.attempt(request) == result
    assert model.count == MAX_ATTEMPTS


async def test_no_attempt_is_made_after_the_time_of_a_turn(start, model):
    session = await start()
    request = session.asks("the weather please")
    env = environment()
    env.info = type(env.info)(**{**vars(env.info), "scheduled_time": datetime.now(UTC) - MAX_ELAPSED})
    model.inject({"kind": "http_error", "status": 500})
    assert "given up" in (await session.attempt(request, env)).failed


async def test_waits_between_attempts_grow(start, model):
    session = await start()
    request = session.asks("the weather please")
    model.inject({"kind": "http_error", "status": 500, "times": 6})
    waits = [(await failing(session, request)).next_retry_delay for _ in range(6)]
    assert waits[0] <= timedelta(seconds=0.5)
    assert timedelta(seconds=8) <= waits[5] <= timedelta(seconds=16)
