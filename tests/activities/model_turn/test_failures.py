"""What the client's exceptions mean, over real HTTP."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from holdfast.catalogue import AgentSpec, Catalogue
from holdfast_activities.messages_api.answer import Answer
from holdfast_activities.messages_api.client import ModelSettings, open_client
from holdfast_activities.messages_api.failures import classify, read_retry_after
from holdfast_activities.messages_api.reader import read_answer
from holdfast_activities.messages_api.request import build_request
from holdfast_ledger.records import StoredMessage
from holdfast_workers.scripted_model import running

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


async def ask(settings, answer=None):
    """One streamed request; the exception it ends with, or None."""
    greeting = StoredMessage(head="h", role="user", turn=1, content="hello")
    client = open_client(settings)
    try:
        await read_answer(
            client,
            build_request(Catalogue(agent=AgentSpec()), [greeting]),
            idempotency_key="k",
            into=answer or Answer(),
            show=lambda piece: None,
        )
    except Exception as error:
        return error
    finally:
        await client.close()
    return None


@pytest.fixture(scope="module")
async def model():
    async with running() as server:
        yield server


@pytest.fixture
async def fail(model):
    """Ask while a fault strikes, and say what it meant."""

    async def failing(stall=60.0, **fault):
        model.clear()
        model.inject(fault)
        settings = ModelSettings(base_url=model.url, api_key="k", stall_timeout=timedelta(seconds=stall))
        error = await ask(settings)
        assert error is not None
        return classify(error, datetime.now(UTC))

    return failing


@pytest.mark.parametrize("status", [429, 529])
async def test_a_busy_model_is_asked_again_without_alarm(fail, status):
    failure = await fail(kind="http_error", status=status)
    assert (failure.permanent, failure.busy) == (False, True)


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504])
async def test_a_passing_error_is_tried_again(fail, status):
    failure = await fail(kind="http_error", status=status)
    assert (failure.permanent, failure.busy) == (False, False)
    assert failure.evidence["status"] == status
    assert failure.evidence["request_id"].startswith("req_")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "refused the request as invalid_request_error: no such thing"),
        (401, "set ANTHROPIC_API_KEY"),
        (403, "may not do this"),
        (404, "Check the agent's `model`"),
        (413, "too long"),
        (422, "refused the request"),
    ],
)
async def test_a_refusal_is_permanent_and_says_what_to_do(fail, status, words):
    failure = await fail(kind="http_error", status=status, message="no such thing")
    assert failure.permanent
    assert words in failure.message
    assert "no such thing" in failure.message


async def test_a_conversation_that_is_too_long_is_said_to_be(fail):
    failure = await fail(kind="http_error", status=400, message="prompt is too long: 9 tokens > 8 maximum")
    assert failure.permanent
    assert failure.message.startswith("the conversation is too long for the model")
    assert "`strategy` in `[agents.NAME.memory]`" in failure.message


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_the_server_says_when_to_come_back(fail, form):
    failure = await fail(kind="http_error", status=429, retry_after=60, retry_after_form=form)
    assert timedelta(seconds=50) <= failure.retry_after <= timedelta(seconds=61)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after-ms": "250", "retry-after": "9"}, timedelta(milliseconds=250)),
        ({"retry-after": "1.5"}, timedelta(seconds=1.5)),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 GMT"}, timedelta(seconds=30)),
        ({"retry-after": "Fri, 20 Nov 2026 11:00:00 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1e400"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_every_form(headers, wait):
    assert read_retry_after(headers, NOW) == wait


@pytest.mark.parametrize(
    ("kind", "permanent", "busy"),
    [
        ("overloaded_error", False, True),
        ("rate_limit_error", False, True),
        ("api_error", False, False),
        ("never_heard_of_it", False, False),
        ("invalid_request_error", True, False),
        ("authentication_error", True, False),
    ],
)
async def test_an_error_inside_a_stream_is_judged_by_its_type(fail, kind, permanent, busy):
    """Its status is 200."""
    failure = await fail(kind="error_event", error=kind, after_events=3)
    assert (failure.permanent, failure.busy) == (permanent, busy)


@pytest.mark.parametrize(
    "fault", [{"kind": "truncate"}, {"kind": "truncate", "after_events": 10}, {"kind": "drop"}]
)
async def test_a_stream_that_breaks_off_is_tried_again(fail, fault):
    failure = await fail(**fault)
    assert (failure.permanent, failure.kind) == (False, "connection")


@pytest.mark.parametrize("after", [0, 3])
async def test_a_stream_that_falls_silent_is_tried_again(fail, after):
    failure = await fail(stall=0.2, kind="stall", seconds=30, after_events=after)
    assert (failure.permanent, failure.kind) == (False, "connection")


async def test_a_server_that_does_not_listen_is_tried_again():
    error = await ask(ModelSettings(base_url="http://127.0.0.1:9", api_key="k"))
    assert classify(error, NOW).kind == "connection"


def no_credentials(monkeypatch, home):
    for name in [name for name in os.environ if name.startswith("ANTHROPIC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))


async def test_a_worker_without_a_key_is_told_which_one_to_set(model, monkeypatch, tmp_path):
    no_credentials(monkeypatch, tmp_path)
    failure = classify(await ask(ModelSettings(base_url=model.url)), NOW)
    assert failure.permanent
    assert "ANTHROPIC_API_KEY" in failure.message


def test_a_bug_of_ours_is_not_blamed_on_the_model():
    assert classify(KeyError("x"), NOW) is None


async def test_an_answer_that_came_whole_is_complete(model):
    model.clear()
    answer = Answer()
    assert await ask(ModelSettings(base_url=model.url, api_key="k"), answer) is None
    assert answer.complete
    assert answer.stop_reason == "end_turn"
    assert model.requests[0].headers["idempotency-key"] == "k"
