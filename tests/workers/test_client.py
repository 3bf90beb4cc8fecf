"""The typed client against real servers, before any worker runs: what reaches them, and what never does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import WorkflowExecutionStatus

from holdfast.messages import MAX_MESSAGE_BYTES, Principal
from holdfast_ledger.errors import LedgerUnavailable, SessionIdReused
from holdfast_workers import reach
from holdfast_workers.client import Holdfast, MessageRefused, SessionEnded, SessionNotFound, new_id
from holdfast_workers.fairness import priority_of
from holdfast_workers.settings import Settings
from holdfast_workers.temporal import TemporalUnavailable


@pytest.fixture
def settings(servers, database, tmp_path):
    return Settings.load(
        {"HOLDFAST_HOME": str(tmp_path), "TEMPORAL_CONFIG_FILE": "/dev/null"},
        dsn=database.dsn,
        address=servers.temporal_address,
    )


@pytest.fixture
async def client(settings):
    async with await Holdfast.connect(settings) as connected:
        yield connected


@pytest.fixture
def impatient(monkeypatch):
    """Wait a moment for a worker instead of five seconds."""
    monkeypatch.setattr(reach, "UPDATE_WITHIN", timedelta(milliseconds=300))


async def signals_of(client: Holdfast, session_id: str) -> list[tuple[str, bytes]]:
    """Name and payload of each signal in the session's history."""
    history = await client.temporal.get_workflow_handle(session_id).fetch_history()
    signaled = [
        event.workflow_execution_signaled_event_attributes
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    ]
    return [(one.signal_name, one.input.payloads[0].data) for one in signaled]


async def test_the_same_start_twice_is_one_session(client):
    first = await client.start("hello", principal=Principal(requested_by="ann"))
    again = await client.start("hello", principal=Principal(requested_by="ann"), session_id=first.session_id)
    assert first.fresh
    assert not again.fresh
    assert again.session_id == first.session_id


async def test_the_same_start_is_the_same_session_also_after_it_ended(client):
    first = await client.start("hello")
    await client.temporal.get_workflow_handle(first.session_id).terminate()
    again = await client.start("hello", session_id=first.session_id)
    assert not again.fresh
    described = await client.temporal.get_workflow_handle(first.session_id).describe()
    assert described.status is WorkflowExecutionStatus.TERMINATED


@pytest.mark.parametrize(
    "other",
    [
        {"message": "other"},
        {"agent": "other"},
        {"principal": Principal(requested_by="bob")},
        {"close_when_idle": True},
    ],
)
async def test_an_id_with_another_start_is_refused(client, other):
    first = await client.start("hello", agent="default", principal=Principal(requested_by="ann"))
    same = {"message": "hello", "agent": "default", "principal": Principal(requested_by="ann")}
    with pytest.raises(SessionIdReused, match=first.session_id):
        await client.start(**{**same, **other}, session_id=first.session_id)


async def test_a_start_that_was_lost_between_the_two_servers_is_finished_by_the_next_one(client, monkeypatch):
    session_id = new_id()

    async def lost(*_, **__):
        raise TemporalUnavailable("lost on the way")

    with monkeypatch.context() as broken:
        broken.setattr(client.temporal, "start_workflow", lost)
        with pytest.raises(TemporalUnavailable):
            await client.start("hello", session_id=session_id)
    await client.start("hello", session_id=session_id)
    described = await client.temporal.get_workflow_handle(session_id).describe()
    assert described.status is WorkflowExecutionStatus.RUNNING


@pytest.mark.parametrize(("fairness", "key"), [("off", ""), ("tenant", "acme"), ("user", "ann")])
async def test_who_shares_the_workers_time_is_said_to_temporal(settings, fairness, key):
    async with await Holdfast.connect(settings.model_copy(update={"fairness": fairness})) as client:
        principal = Principal(requested_by="ann", tenant="acme")
        started = await client.start("hello", principal=principal, priority=1)
        history = await client.temporal.get_workflow_handle(started.session_id).fetch_history()
        share = history.events[0].workflow_execution_started_event_attributes.priority
        assert (share.priority_key, share.fairness_key) == (1, key)


def test_a_name_too_long_for_a_fairness_key_has_one_of_its_own():
    one, other = (
        priority_of(Principal(tenant="é" * 63 + last), "tenant", None).fairness_key for last in ("a", "b")
    )
    assert one != other
    assert len(one) == 64


async def test_no_message_enters_temporals_history(client, impatient):
    secret = "the combination is 4711"
    started = await client.start(secret)
    await client.send(started.session_id, secret, by="ann")
    history = await client.temporal.get_workflow_handle(started.session_id).fetch_history()
    assert secret not in history.to_json()
    assert b"4711" not in b"".join(event.SerializeToString() for event in history.events)


async def test_a_command_no_worker_answers_is_recorded_as_a_signal_with_its_id(client, impatient):
    started = await client.start("hello")
    delivered = await client.send(started.session_id, "more", by="ann", message_id="m-1")
    assert delivered.how == "recorded"
    [(name, payload)] = await signals_of(client, started.session_id)
    assert name == "send"
    assert b'"id":"m-1"' in payload
    assert b'"by":"ann"' in payload


@pytest.mark.parametrize("verb", ["interrupt", "abort", "close"])
async def test_every_way_to_stop_reaches_a_session_without_a_worker(client, impatient, verb):
    started = await client.start("hello")
    method = client.close_session if verb == "close" else getattr(client, verb)
    assert (await method(started.session_id, by="ann")).how == "recorded"
    assert [name for name, _ in await signals_of(client, started.session_id)] == [verb]


async def test_a_message_of_5_mb_is_refused_and_nothing_is_sent(client):
    with pytest.raises(MessageRefused, match=r"5\.0 MB; at most 4 MB"):
        await client.start("x" * 5 * 2**20, session_id="too-big")
    with pytest.raises(SessionNotFound):
        await client.interrupt("too-big", by="ann")


async def test_the_biggest_message_is_taken(client):
    assert (await client.start("x" * (MAX_MESSAGE_BYTES - 2))).fresh


@pytest.mark.parametrize("message", ["", "  \n", []])
async def test_an_empty_message_is_refused(client, message):
    with pytest.raises(MessageRefused, match="empty"):
        await client.start(message)


@pytest.mark.parametrize("session_id", ["a/b", "-x", "x" * 129, "é"])
async def test_an_id_that_cannot_be_one_is_refused(client, session_id):
    with pytest.raises(MessageRefused, match="session id"):
        await client.start("hello", session_id=session_id)


async def test_an_unknown_session_is_said_to_be_unknown(client):
    with pytest.raises(SessionNotFound, match="no-such"):
        await client.send("no-such", "hello", by="ann")


async def test_an_ended_session_takes_nothing_more(client):
    started = await client.start("hello")
    await client.temporal.get_workflow_handle(started.session_id).terminate()
    with pytest.raises(SessionEnded, match="terminated"):
        await client.send(started.session_id, "more", by="ann")
    with pytest.raises(SessionEnded, match="terminated"):
        await client.abort(started.session_id, by="ann")
    assert (await client.result(started.session_id)).status == "failed"


async def test_a_server_without_search_attributes_runs_sessions(client, settings):
    await client.temporal.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace="bare", workflow_execution_retention_period=timedelta(days=1))
    )
    bare = settings.model_copy(update={"temporal": settings.temporal.model_copy(update={"namespace": "bare"})})
    async with await Holdfast.connect(bare) as other:
        started = await other.start("hello")
        assert (await other.temporal.get_workflow_handle(started.session_id).describe()).status is (
            WorkflowExecutionStatus.RUNNING
        )


async def test_ids_are_uuid7_and_ordered_by_time():
    made = [new_id() for _ in range(50)]
    assert len(set(made)) == 50
    assert all(one[14] == "7" and one[19] in "89ab" for one in made)
    assert [one[:13] for one in made] == sorted(one[:13] for one in made)


async def test_servers_that_are_away_are_named_without_their_password(settings):
    away = settings.model_copy(update={"dsn": "postgresql://app:s3cret@127.0.0.1:1/holdfast"})
    with pytest.raises(LedgerUnavailable, match=r"127\.0\.0\.1:1") as raised:
        await Holdfast.connect(away)
    assert "s3cret" not in str(raised.value)
    nowhere = settings.model_copy(
        update={"temporal": settings.temporal.model_copy(update={"address": "127.0.0.1:1"})}
    )
    with pytest.raises(TemporalUnavailable, match=r"127\.0\.0\.1:1"):
        await Holdfast.connect(nowhere)
