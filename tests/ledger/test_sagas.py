"""Unwinding in the ledger: who may still go forward, what may be undone when, and when nothing stands."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from decimal import Decimal

import asyncpg
import pytest

from holdfast.facts import Kind
from holdfast.states import EffectState, RecoveryClass, SagaState, Tier
from holdfast_ledger.records import Busy, Granted, Refused, Settled
from holdfast_ledger.sagas import undo_id
from holdfast_ledger.store import Ledger
from holdfast_ledger.verify import verify_session
from tests.ledger.conftest import Conversation
from tests.ledger.saga_story import UNDO, Story


@pytest.fixture
async def story(shared_ledger: tuple[Ledger, asyncpg.Connection]) -> AsyncIterator[Story]:
    ledger, owner = shared_ledger
    conversation = Conversation(ledger=ledger, owner=owner, session_id=f"trip-{secrets.token_hex(4)}")
    await conversation.open()
    yield Story(conversation)
    assert (await verify_session(ledger.database, conversation.session_id)).ok


async def test_an_unwinding_raises_the_epoch_and_tombstones_what_was_not_dispatched(story: Story) -> None:
    landed, never_sent = await story.land(), await story.conversation.plan()

    began = await story.begin()

    assert (began.code, began.state, began.epoch) == (None, SagaState.UNWINDING, 2)
    assert (await story.conversation.effect(never_sent))["state"] == "CANCELLED"
    assert list(await story.steps()) == [landed.effect_id]
    (said,) = await story.conversation.entries(Kind.SAGA_UNWINDING)
    assert (said["saga_id"], said["actor"]) == (story.saga_id, "ana")
    again = await story.begin()
    assert again == began, "the same unwinder holds it already"


async def test_nothing_of_the_forward_side_is_claimed_once_an_unwind_began(story: Story) -> None:
    never_sent = await story.conversation.plan()
    planned_later = await story.plan_late()

    tombstone = await story.conversation.claim(never_sent)
    assert isinstance(tombstone, Settled)
    assert tombstone.state is EffectState.CANCELLED
    for epoch in (1, 2):
        refused = await story.conversation.claim(planned_later, saga_epoch=epoch)
        assert isinstance(refused, Refused)
        assert refused.code == "saga_closed"


async def test_a_step_in_doubt_is_left_to_the_unwinder(story: Story) -> None:
    lost = await story.lose()
    await story.begin()

    refused = await story.conversation.claim(lost)

    assert isinstance(refused, Refused)
    assert refused.code == "unwinding"
    assert (await story.conversation.effect(lost))["state"] == "CLAIMED", "nobody gave it up"


@pytest.mark.parametrize("forward", ["alive", "lost", "unknown", "failed", "never sent"])
async def test_a_step_is_undone_only_when_it_is_known_to_stand(story: Story, forward: str) -> None:
    call = await story.conversation.plan()
    if forward != "never sent":
        granted = await story.conversation.grant(call)
    if forward == "lost":
        await story.conversation.expire_lease(call)
    if forward in ("unknown", "failed"):
        await story.conversation.record(call, granted.token, EffectState(forward.upper()))
    await story.begin()

    refused = await story.claim_undo(call)

    assert isinstance(refused, Refused)
    assert refused.code == "not_settled"
    assert await story.undo_row(call) is None


@pytest.mark.parametrize("other", ["alive", "lost"])
async def test_nothing_is_undone_while_another_step_may_still_land(story: Story, other: str) -> None:
    landed = await story.land()
    running = await story.conversation.plan()
    granted = await story.conversation.grant(running)
    if other == "lost":
        await story.conversation.expire_lease(running)
    await story.begin()

    refused = await story.claim_undo(landed)
    assert isinstance(refused, Refused)
    assert refused.code == "not_settled"

    await story.conversation.record(running, granted.token, EffectState.FAILED)
    assert isinstance(await story.claim_undo(landed), Granted)


async def test_a_living_attempt_that_lands_during_the_unwind_is_a_step_of_its_plan(story: Story) -> None:
    call = await story.conversation.plan()
    granted = await story.conversation.grant(call)
    await story.begin()
    (alive,) = (await story.steps()).values()
    assert alive.lease_left is not None
    assert alive.lease_left.total_seconds() > 10

    assert (await story.conversation.record(call, granted.token, EffectState.DONE)).accepted

    assert (await story.steps())[call.effect_id].state is EffectState.DONE
    assert await story.end(SagaState.ABORTED) is SagaState.UNWINDING


async def test_a_step_is_undone_once_whoever_asks(story: Story) -> None:
    call = await story.land()
    await story.begin()

    first = await story.claim_undo(call)
    assert isinstance(first, Granted)
    assert isinstance(await story.claim_undo(call), Busy)
    await story.record_undo(call, first.token, EffectState.DONE)

    again = await story.claim_undo(call)
    assert isinstance(again, Settled)
    assert again.state is EffectState.DONE
    assert await story.end(SagaState.ABORTED) is SagaState.ABORTED
    intents = [e["effect_id"] for e in await story.conversation.entries(Kind.EFFECT_INTENT)]
    assert intents.count(undo_id(call.effect_id)) == 1


async def test_an_undo_is_never_undone(story: Story) -> None:
    call = await story.land()
    await story.begin()
    await story.undo(call)
    undo = await story.undo_row(call)
    assert undo is not None

    claim = story.undo_claim(call, effect_id=undo_id(undo["effect_id"]))
    assert claim.planned is not None
    object.__setattr__(claim.planned, "undo_of", undo["effect_id"])
    refused = await story.conversation.ledger.claim(claim)

    assert isinstance(refused, Refused)
    assert refused.code == "not_settled"


@pytest.mark.parametrize("standing", ["done", "unknown", "alive", "undo failed", "undo unknown"])
async def test_a_saga_is_not_aborted_while_something_stands(story: Story, standing: str) -> None:
    call = await story.conversation.plan()
    granted = await story.conversation.grant(call)
    if standing != "alive":
        state = EffectState.UNKNOWN if standing == "unknown" else EffectState.DONE
        await story.conversation.record(call, granted.token, state)
    await story.begin()
    if standing.startswith("undo"):
        await story.undo(call, EffectState(standing.removeprefix("undo ").upper()))

    assert await story.end(SagaState.ABORTED) is SagaState.UNWINDING
    assert await story.end(SagaState.HELD, reason="a person must say") is SagaState.HELD
    assert (await story.row())["reason"] == "a person must say"


async def test_reads_and_waived_steps_do_not_stand(story: Story) -> None:
    await story.land(tier=Tier.READ, undo=None)
    waived = await story.land()
    await story.begin()
    await story.end(SagaState.HELD)

    assert (await story.resolve("waive", waived)).state is SagaState.UNWINDING

    assert await story.end(SagaState.ABORTED, epoch=3) is SagaState.ABORTED
    assert (await story.row())["closed_at"] is not None


async def test_a_step_that_lands_late_is_recorded_so_and_the_unwind_goes_on(story: Story) -> None:
    lost = await story.lose()
    await story.conversation.claim(lost)
    never = await story.find_out(lost, EffectState.OPEN, key_refused=True)
    assert never.accepted, "the service was wrong: it is under way"
    await story.begin()
    assert await story.end(SagaState.ABORTED) is SagaState.ABORTED

    late = await story.conversation.record(lost, 1, EffectState.DONE)

    assert late.accepted
    assert (await story.conversation.effect(lost))["state"] == "DONE"
    outcomes = [e["outcome"] for e in await story.conversation.entries(Kind.EFFECT_OUTCOME)]
    assert outcomes[-1] == "landed_late"
    row = await story.row()
    assert (row["state"], row["epoch"], row["closed_at"]) == ("UNWINDING", 3, None)
    assert await story.end(SagaState.ABORTED) is SagaState.UNWINDING, "the unwinder that had ended does not hold it"
    began = await story.begin("run-2")
    assert lost.effect_id in await story.steps()
    assert isinstance(await story.claim_undo(lost, began.epoch), Granted)


async def test_the_older_of_two_unwinders_is_fenced(story: Story) -> None:
    call = await story.land()
    await story.begin("run-1")
    older = await story.claim_undo(call)
    assert isinstance(older, Granted)

    newer = await story.begin("run-2")

    assert newer.epoch == 3
    assert (await story.begin("run-1", epoch=2)).code == "taken"
    await story.conversation.expire_lease_of(undo_id(call.effect_id))
    refused = await story.claim_undo(call, 2)
    assert isinstance(refused, Refused)
    assert refused.code == "epoch"
    assert await story.end(SagaState.HELD, epoch=2) is SagaState.UNWINDING
    assert (await story.row())["state"] == "UNWINDING"
    assert isinstance(await story.claim_undo(call, 3), Granted)
    assert not (await story.record_undo(call, older.token, EffectState.DONE)).accepted


async def test_a_compensation_is_billed_and_is_no_call(story: Story) -> None:
    call = await story.land()
    before = await story.conversation.ledger.reader.session(story.session_id)
    await story.begin()

    await story.undo(call)

    after = await story.conversation.ledger.reader.session(story.session_id)
    assert after.calls == before.calls
    assert before.usd is not None
    assert after.usd == before.usd + Decimal("0.05")


async def test_a_stopped_tool_makes_its_undo_wait_and_never_fail(story: Story) -> None:
    call = await story.land()
    await story.begin()
    switch = "INSERT INTO holdfast.kill_switch (tool, reason, disabled_by) VALUES ('release', 'an incident', 'ana')"
    await story.conversation.owner.execute(switch)

    for _ in range(4):
        refused = await story.claim_undo(call)
        assert isinstance(refused, Refused)
        assert refused.code == "disabled"
    await story.conversation.owner.execute("DELETE FROM holdfast.kill_switch")

    granted = await story.claim_undo(call)
    assert isinstance(granted, Granted)
    assert granted.attempt == 1


async def test_an_operators_lost_step_is_unknown_once_the_unwinder_asks(story: Story) -> None:
    lost = await story.lose()
    await story.begin()

    settled = await story.settle(lost, tries=0)

    assert isinstance(settled, Settled)
    assert settled.state is EffectState.UNKNOWN


async def test_an_operators_step_that_a_person_reopened_is_not_sent_to_find_out(story: Story) -> None:
    lost = await story.lose()
    given_up = await story.conversation.claim(lost)
    assert isinstance(given_up, Settled)
    assert (await story.find_out(lost, EffectState.OPEN)).state is EffectState.OPEN
    await story.begin()

    settled = await story.settle(lost)

    assert isinstance(settled, Settled)
    assert settled.state is EffectState.UNKNOWN


@pytest.mark.parametrize("given_up", [False, True])
async def test_a_step_whose_service_dedupes_is_sent_again_under_its_key_to_find_out(
    story: Story, given_up: bool
) -> None:
    lost = await story.lose(RecoveryClass.IDEMPOTENT)
    if given_up:
        await story.conversation.owner.execute(
            "UPDATE holdfast.effect SET state = 'UNKNOWN', lease_until = NULL WHERE effect_id = $1",
            lost.effect_id,
        )
    await story.conversation.owner.execute(
        "UPDATE holdfast.effect SET key_ttl = '1 day' WHERE effect_id = $1", lost.effect_id
    )
    await story.begin()

    again = await story.settle(lost)
    assert isinstance(again, Granted)
    await story.conversation.record(lost, again.token, EffectState.DONE)

    assert (await story.steps())[lost.effect_id].state is EffectState.DONE


async def test_finding_out_ends_in_unknown_after_so_many_tries(story: Story) -> None:
    lost = await story.lose(RecoveryClass.PROBE)
    await story.begin()

    for number in range(1, 5):
        granted = await story.settle(lost)
        assert isinstance(granted, Granted), number
        assert granted.probe
        recorded = await story.conversation.record(lost, granted.token, EffectState.OPEN, doubt=True)

    assert recorded.state is EffectState.UNKNOWN
    again = await story.settle(lost)
    assert isinstance(again, Settled)
    assert (await story.steps())[lost.effect_id].settle_tried == 4


async def test_what_was_never_sent_is_not_sent_to_find_out(story: Story) -> None:
    await story.land()
    planned_later = await story.plan_late()

    refused = await story.settle(planned_later)

    assert isinstance(refused, Refused)
    assert refused.code == "saga_closed"


async def test_a_step_nobody_knows_of_is_undone_by_its_key_where_it_says_how(story: Story) -> None:
    lost = await story.lose()
    await story.begin()
    await story.settle(lost, tries=0)

    granted = await story.claim_undo(lost, unknown=True, args=b'{"path":"x"}')
    assert isinstance(granted, Granted)
    assert granted.args == b'{"path":"x"}'
    await story.record_undo(lost, granted.token, EffectState.DONE)

    assert await story.end(SagaState.ABORTED) is SagaState.ABORTED


@pytest.mark.parametrize("ended", [False, True])
async def test_a_step_nobody_knew_of_that_lands_late_is_undone_or_a_persons(story: Story, ended: bool) -> None:
    lost = await story.lose()
    await story.begin()
    await story.settle(lost, tries=0)
    if ended:
        granted = await story.claim_undo(lost, unknown=True, args=b"{}")
        assert isinstance(granted, Granted)
        await story.record_undo(lost, granted.token, EffectState.DONE)
        assert await story.end(SagaState.ABORTED) is SagaState.ABORTED

    late = await story.conversation.record(lost, 1, EffectState.DONE)

    assert late.accepted
    assert (await story.row())["state"] == ("HELD" if ended else "UNWINDING")
    assert (await story.steps())[lost.effect_id].state is EffectState.DONE


async def test_an_undo_that_is_tried_otherwise_goes_under_a_new_key(story: Story) -> None:
    lost = await story.lose()
    await story.begin()
    await story.settle(lost, tries=0)
    unseen = await story.claim_undo(lost, unknown=True, args=b"{}")
    assert isinstance(unseen, Granted)
    await story.record_undo(lost, unseen.token, EffectState.OPEN)
    await story.conversation.record(lost, 1, EffectState.DONE)

    known = await story.claim_undo(lost)

    assert isinstance(known, Granted)
    assert (known.args, known.keys_refused) == (UNDO.args, 1)


@pytest.mark.parametrize("happened", [EffectState.DONE, EffectState.FAILED])
async def test_an_unwind_that_was_held_for_a_doubt_goes_on_when_a_person_settles_it(
    story: Story, happened: EffectState
) -> None:
    lost = await story.lose()
    await story.begin()
    await story.settle(lost, tries=0)
    assert await story.end(SagaState.HELD, reason="nobody knows") is SagaState.HELD

    await story.find_out(lost, happened)

    assert (await story.row())["state"] == "UNWINDING"
    assert (lost.effect_id in await story.steps()) == (happened is EffectState.DONE)
    assert len(await story.conversation.entries(Kind.SAGA_UNWINDING)) == 2


@pytest.mark.parametrize("another", [False, True], ids=["the only doubt", "another is left"])
async def test_an_unwind_that_was_held_for_a_doubt_goes_on_when_the_step_lands_late(
    story: Story, another: bool
) -> None:
    lost = [await story.lose() for _ in range(1 + another)]
    await story.begin()
    for each in lost:
        await story.settle(each, tries=0)
    assert await story.end(SagaState.HELD, reason="nobody knows") is SagaState.HELD

    assert (await story.conversation.record(lost[0], 1, EffectState.DONE)).accepted

    assert (await story.row())["state"] == ("HELD" if another else "UNWINDING")
    assert (await story.steps())[lost[0].effect_id].state is EffectState.DONE
    assert len(await story.conversation.entries(Kind.SAGA_UNWINDING)) == (1 if another else 2)


async def test_a_held_step_that_was_undone_unseen_and_lands_late_is_a_persons(story: Story) -> None:
    unseen, lost = await story.lose(), await story.lose()
    await story.begin()
    for each in (unseen, lost):
        await story.settle(each, tries=0)
    granted = await story.claim_undo(unseen, unknown=True, args=b"{}")
    assert isinstance(granted, Granted)
    await story.record_undo(unseen, granted.token, EffectState.DONE)
    assert await story.end(SagaState.HELD, reason="nobody knows") is SagaState.HELD

    await story.conversation.record(unseen, 1, EffectState.DONE)

    row = await story.row()
    assert row["state"] == "HELD"


async def test_a_doubt_settled_late_keeps_its_place_in_the_order(story: Story) -> None:
    lost = await story.lose()
    await story.conversation.claim(lost)
    later = await story.land()
    await story.begin()

    await story.find_out(lost, EffectState.DONE)

    assert list(await story.steps()) == [later.effect_id, lost.effect_id], "the later one may build on it"


@pytest.mark.parametrize("state", ["COMMITTED", "ABORTED"])
async def test_what_has_ended_is_not_unwound(story: Story, state: str) -> None:
    await story.land()
    await story.conversation.owner.execute(
        "UPDATE holdfast.saga SET state = $1 WHERE id = $2", state, story.saga_id
    )

    refused = await story.begin()

    assert (refused.code, refused.state) == (state.lower(), SagaState(state))


async def test_the_view_of_compensations_tells_the_truth(story: Story) -> None:
    undone, failed, lost, by_hand, standing = [await story.land() for _ in range(5)]
    await story.begin()
    await story.undo(undone)
    await story.undo(failed, EffectState.FAILED)
    await story.undo(lost, EffectState.UNKNOWN)
    await story.end(SagaState.STUCK)
    await story.resolve("mark_done", by_hand)

    rows = await story.conversation.owner.fetch(
        "SELECT * FROM audit.compensation_action WHERE run_id = $1", story.session_id
    )

    seen = {row["effect_id"]: (row["action"], row["executed"], row["outcome"]) for row in rows}
    assert seen == {
        undone.effect_id: ("release", True, "done"),
        failed.effect_id: ("release", False, "failed"),
        lost.effect_id: ("release", None, "unknown"),
        by_hand.effect_id: ("undone_by_hand", True, "undone_by_hand"),
        standing.effect_id: ("release", False, "registered"),
    }
    assert {row["call_id"] for row in rows if row["undone_at"]} == {undone.call, failed.call, lost.call}
