"""What the CLI reads: sessions by filter and prefix, timelines, effects, sagas, turns, audit views."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from holdfast import ids
from holdfast.facts import Kind
from holdfast.states import EffectState, RecoveryClass, SagaState, SessionStatus, Tier
from holdfast_ledger.errors import AmbiguousId, EffectMissing, SessionIdReused, SessionMissing
from holdfast_ledger.records import Closing, Registered, Registration, Undo
from holdfast_ledger.store import Ledger
from tests.ledger.conftest import START, Conversation

REGISTRATION = Registration(
    session_id="trip-9",
    agent="travel",
    start_digest="s1",
    requested_by="ana",
    tenant="acme",
    labels={"team": "ops"},
)


async def test_a_registered_start_is_the_same_session_again(ledger: Ledger) -> None:
    assert await ledger.register(REGISTRATION) == Registered(fresh=True, status="running", first_run_id=None)
    assert not (await ledger.register(REGISTRATION)).fresh


async def test_a_session_id_is_never_used_for_another_start(conversation: Conversation) -> None:
    ledger = conversation.ledger
    await ledger.register(REGISTRATION)
    with pytest.raises(SessionIdReused, match="trip-9"):
        await ledger.register(replace(REGISTRATION, start_digest="s2"))
    with pytest.raises(SessionIdReused, match="trip-1"):  # started without having been announced
        await ledger.register(replace(REGISTRATION, session_id=conversation.session_id))


async def test_a_session_is_opened_once_by_one_workflow(conversation: Conversation) -> None:
    await conversation.open()
    assert len(await conversation.entries(Kind.SESSION_OPENED)) == 1
    with pytest.raises(SessionIdReused, match="another workflow"):
        await conversation.open(first_run_id="another")
    assert (await conversation.ledger.catalogue(await _digest(conversation))).agent.name == "default"


async def _digest(conversation: Conversation) -> str:
    return str((await conversation.ledger.reader.session(conversation.session_id)).catalogue_digest)


async def test_an_announced_session_is_opened_by_its_workflow(ledger: Ledger, conversation: Conversation) -> None:
    await ledger.register(REGISTRATION)
    digest = await ledger.store_message("trip-9", ids.canonical("hello"))
    announced = replace(conversation, session_id="trip-9")
    await announced.open(labels={"team": "ops"}, tenant="acme")

    session = await ledger.reader.session("trip-9")

    assert (session.first_run_id, session.tenant, session.roles) == ("run-of-trip-9", "acme", ("clerk",))
    assert await ledger.reader.content("trip-9", [digest, "none"]) == {digest: "hello"}
    assert not (await ledger.register(REGISTRATION)).fresh
    with pytest.raises(SessionMissing):
        await ledger.store_message("nobody", b"{}")


async def test_sessions_are_filtered_newest_first(ledger: Ledger, conversation: Conversation) -> None:
    for number in range(3):
        await ledger.register(
            replace(REGISTRATION, session_id=f"s-{number}", labels={"n": str(number), "team": "x"})
        )
    await ledger.close_session(Closing(session_id="trip-1", status="completed", reason="", at=START))
    find = ledger.reader.sessions

    assert [each.id for each in await find()] == ["s-2", "s-1", "s-0", "trip-1"]
    assert [each.id for each in await find(limit=1)] == ["s-2"]
    assert [each.id for each in await find(statuses=[SessionStatus.COMPLETED])] == ["trip-1"]
    assert [each.id for each in await find(agent="default")] == ["trip-1"]
    assert [each.id for each in await find(tenant="acme", labels={"team": "x", "n": "1"})] == ["s-1"]
    newest = (await find(limit=1))[0]
    assert [each.id for each in await find(since=newest.registered_at)] == ["s-2"]
    assert await find(labels={"team": "none"}) == []


async def test_a_unique_prefix_names_a_session_or_an_effect(conversation: Conversation) -> None:
    ledger = conversation.ledger
    for name in ("trip-1", "trip-10", "trip-11", "tr%p"):
        if name != "trip-1":
            await ledger.register(replace(REGISTRATION, session_id=name))
    call = await conversation.plan()

    assert await ledger.reader.session_id("trip-1") == "trip-1"
    assert await ledger.reader.session_id("trip-11") == "trip-11"
    assert await ledger.reader.session_id("tr%") == "tr%p"
    assert await ledger.reader.effect_id(call.effect_id[:16]) == call.effect_id
    with pytest.raises(AmbiguousId, match="`trip-1`, `trip-10`, `trip-11`"):
        await ledger.reader.session_id("trip")
    with pytest.raises(SessionMissing, match="nobody"):
        await ledger.reader.session_id("nobody")
    with pytest.raises(EffectMissing):
        await ledger.reader.effect_id("zz")


async def test_a_timeline_tells_the_session_in_order(conversation: Conversation) -> None:
    call = await conversation.plan(RecoveryClass.RETRY)
    granted = await conversation.grant(call)
    await conversation.record(call, granted.token, EffectState.DONE, evidence={"request": "req_1"})
    reader = conversation.ledger.reader

    entries = await reader.timeline(conversation.session_id)

    assert [entry.kind for entry in entries] == [
        "session_opened",
        "saga_opened",
        "model_intent",
        "model_turn",
        "effect_intent",
        "effect_outcome",
    ]
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert entries[3].body["usage"]["input"] == 10
    assert (entries[5].latency, entries[5].outcome) == (timedelta(milliseconds=20), "done")
    assert entries[5].body["evidence"] == {"request": "req_1"}
    assert await reader.timeline(conversation.session_id, after=4) == entries[4:]
    assert await reader.timeline(conversation.session_id, after=1, limit=2) == entries[1:3]


async def test_effects_attempts_sagas_and_turns_are_read_as_they_stand(conversation: Conversation) -> None:
    done, lost = conversation.planned_call("hold", tier=Tier.REVERSIBLE), conversation.planned_call("pay")
    await conversation.take_turn(done, lost)
    granted = await conversation.grant(done)
    await conversation.record(
        done,
        granted.token,
        EffectState.DONE,
        result=b"12345",
        undo=Undo(tool="release", version="1", args=b"{}"),
        usd=Decimal("0.10"),
    )
    await conversation.grant(lost)
    await conversation.expire_lease(lost)
    await conversation.claim(lost)
    reader = conversation.ledger.reader

    held, unknown = await reader.effects(session_id=conversation.session_id, kind="call")
    assert (held.state, held.result_bytes, held.undo_tool, held.usd) == ("DONE", 5, "release", Decimal("0.10"))
    assert unknown.outcome is not None
    assert (unknown.state, unknown.outcome["status"]) == ("UNKNOWN", "unknown")
    assert [each.effect_id for each in await reader.effects(states=[EffectState.UNKNOWN])] == [lost.effect_id]
    assert [each.effect_id for each in await reader.effects(tool="hold")] == [done.effect_id]
    assert await reader.effect(lost.effect_id) == unknown
    assert [(each.token, each.state) for each in await reader.attempts(lost.effect_id)] == [(1, "EXPIRED")]
    saga = (await reader.sagas(session_id=conversation.session_id, states=[SagaState.OPEN]))[0]
    assert (saga.standing, saga.unknown, saga.undoable) == (1, 1, 1)
    turn = (await reader.turns(conversation.session_id))[0]
    assert (turn.model_answered, turn.usage.total, turn.latency) == ("claude-1", 15, timedelta(seconds=1.5))
    assert await reader.newest_head(conversation.session_id) == conversation.head
    session = await reader.session(conversation.session_id)
    assert (session.calls, session.usd) == (2, Decimal("0.35"))
    with pytest.raises(EffectMissing):
        await reader.effect("none")


async def test_a_closed_session_asks_nobody_anything(conversation: Conversation) -> None:
    call = await conversation.plan()
    ask = conversation.fact(Kind.APPROVAL_ASKED, "asked", call=call.call, body={"digest": call.digest})
    closing = Closing(
        session_id=conversation.session_id,
        status="aborted",
        reason="enough",
        at=START + timedelta(hours=1),
        saga_id=conversation.saga_id,
        outbox=(ask,),
    )
    for _ in range(2):
        await conversation.ledger.close_session(closing)

    session = await conversation.ledger.reader.session(conversation.session_id)
    assert (session.status, session.status_reason, session.ended_at) == ("aborted", "enough", closing.at)
    assert await conversation.ledger.reader.approvals() == []
    assert len(await conversation.entries(Kind.SESSION_CLOSED)) == 1
    assert (await conversation.effect(call))["state"] == "CANCELLED"


@pytest.mark.parametrize(
    ("status", "outcome", "end"),
    [
        ("completed", EffectState.DONE, "COMMITTED"),
        ("aborted", EffectState.DONE, "HELD"),
        ("aborted", EffectState.FAILED, "ABORTED"),
        ("completed", EffectState.UNKNOWN, "HELD"),
        ("failed", None, "ABORTED"),
    ],
)
async def test_a_saga_open_at_the_end_of_its_session_gets_the_end_that_what_stands_allows(
    conversation: Conversation, status: str, outcome: EffectState | None, end: str
) -> None:
    call = await conversation.plan()
    if outcome is not None:
        granted = await conversation.grant(call)
        await conversation.record(call, granted.token, outcome)

    await conversation.ledger.close_session(
        Closing(
            session_id="trip-1",
            status=status,
            reason="",
            at=START + timedelta(hours=1),
            saga_id=conversation.saga_id,
        )
    )

    assert (await conversation.ledger.reader.sagas())[0].state == end
    assert (await conversation.entries(Kind.SAGA_CLOSED))[0]["outcome"] == end
