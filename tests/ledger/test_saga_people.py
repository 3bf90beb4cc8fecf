"""Code-defined sagas in the ledger, and what people say of any saga that cannot go on by itself."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from holdfast import ids
from holdfast.facts import Fact, Kind
from holdfast.states import EffectState, SagaState
from holdfast_ledger.records import Claim, Granted, Refused, Settled
from holdfast_ledger.saga_records import Moved, Resolving
from holdfast_ledger.store import Ledger
from holdfast_ledger.verify import verify_session
from tests.ledger.conftest import START, Conversation
from tests.ledger.saga_story import Story, moving, opening, step_claim, step_record
from tests.waiting import until_locked_out


@pytest.fixture
async def story(shared_ledger: tuple[Ledger, asyncpg.Connection]) -> AsyncIterator[Story]:
    ledger, owner = shared_ledger
    conversation = Conversation(ledger=ledger, owner=owner, session_id=f"trip-{secrets.token_hex(4)}")
    await conversation.open()
    yield Story(conversation)
    assert (await verify_session(ledger.database, conversation.session_id)).ok


class Run:
    """A code-defined saga, driven as its workflow would."""

    def __init__(self, ledger: Ledger, owner: asyncpg.Connection) -> None:
        self.id = f"rebook-{secrets.token_hex(4)}"
        self.ledger = ledger
        self.owner = owner
        self.name = f"travel.{self.id}"

    async def open(self, **changes: object) -> Moved:
        return await self.ledger.sagas.open(opening(self.id, **{"name": self.name, **changes}))

    def claim(self, step: str, **changes: object) -> Claim:
        return step_claim(step, self.id, **changes)

    async def land(self, step: str, state: EffectState = EffectState.DONE, **changes: object) -> Claim:
        claim = self.claim(step, **changes)
        granted = await self.ledger.claim(claim)
        assert isinstance(granted, Granted), granted
        await self.ledger.record(step_record(claim, granted.token, state))
        return claim

    async def move(self, state: SagaState, **changes: object) -> SagaState | None:
        return (await self.ledger.sagas.move(moving(state, self.id, **changes))).state

    async def begin(self, run: str = "unwind-1") -> Moved:
        return await self.ledger.sagas.begin_unwind(self.id, self.id, unwinder=run)

    async def entries(self, kind: Kind) -> list[asyncpg.Record]:
        return await self.owner.fetch(
            "SELECT e.* FROM holdfast.entry e JOIN holdfast.session s USING (session_key) "
            "WHERE s.id = $1 AND e.kind = $2 ORDER BY seq",
            self.id,
            kind,
        )


@pytest.fixture
async def run(shared_ledger: tuple[Ledger, asyncpg.Connection]) -> AsyncIterator[Run]:
    run = Run(*shared_ledger)
    assert (await run.open()).state is SagaState.OPEN
    yield run
    assert (await verify_session(run.ledger.database, run.id)).ok


async def test_a_saga_has_a_chain_of_its_own_and_is_no_session_of_any_list(run: Run) -> None:
    (opened,) = await run.entries(Kind.SAGA_OPENED)

    assert (opened["seq"], opened["saga_id"], opened["actor"]) == (1, run.id, "ana")
    assert run.id not in {session.id for session in await run.ledger.reader.sessions()}
    assert (await run.ledger.sagas.input(run.id)) == {"name": "travel.rebook", "args": {"booking": "TRV-1"}}


async def test_a_steps_row_is_made_by_its_own_claim_and_its_facts_are_told(run: Run) -> None:
    fact = Fact(key="checked", kind=Kind.LIMIT_REACHED, at=START)
    claim = run.claim("hold", outbox=(fact,))

    granted = await run.ledger.claim(claim)

    assert isinstance(granted, Granted)
    assert granted.args == b'{"step":"hold"}'
    assert len(await run.entries(Kind.LIMIT_REACHED)) == 1
    (intent,) = await run.entries(Kind.EFFECT_INTENT)
    assert (intent["call"], intent["args_digest"]) == ("hold", claim.fingerprint)
    other = replace(claim, fingerprint="other", outbox=())
    refused = await run.ledger.claim(other)
    assert isinstance(refused, Refused)
    assert refused.code == "conflict"


async def test_a_later_run_gets_what_landed_and_may_not_change_what_it_stands_on(run: Run) -> None:
    claim = await run.land("hold")

    assert (await run.open(run_id="run-2", version="2", source="digest-2")).code is None
    again = await run.ledger.claim(replace(claim, nonce="another"))
    assert isinstance(again, Settled)
    assert again.state is EffectState.DONE
    for changed, code in (({"name": "other"}, "reused"), ({"source": "digest-2"}, "changed")):
        assert (await run.open(run_id="run-3", **changed)).code == code
    row = await run.ledger.sagas.row(run.id)
    assert (row.version, row.owner_run) == ("1", "run-2")


async def test_a_changed_body_is_refused_only_while_its_version_is_in_use(run: Run) -> None:
    another = Run(run.ledger, run.owner)
    another.name = run.name

    refused = await another.open(source="digest-2")
    assert refused.code == "changed"
    assert run.id in refused.said
    assert await run.owner.fetchval("SELECT count(*) FROM holdfast.session WHERE id = $1", another.id) == 0
    await run.move(SagaState.COMMITTED)

    assert (await another.open(source="digest-2")).code is None


async def test_the_id_of_a_session_opens_no_saga(run: Run, story: Story) -> None:
    refused = await run.ledger.sagas.open(opening(story.session_id))

    assert refused.code == "reused"


@pytest.mark.parametrize("doubt", ["alive", "unknown"])
async def test_a_saga_in_doubt_is_held_where_it_would_commit(run: Run, doubt: str) -> None:
    claim = run.claim("hold")
    granted = await run.ledger.claim(claim)
    assert isinstance(granted, Granted)
    if doubt == "unknown":
        await run.ledger.record(step_record(claim, granted.token, EffectState.UNKNOWN))

    assert await run.move(SagaState.COMMITTED) is SagaState.HELD

    assert (await run.ledger.reader.session(run.id)).status == "held"


async def test_a_committing_saga_goes_forward_only_and_takes_its_deferred_steps(run: Run) -> None:
    await run.land("hold")
    assert await run.move(SagaState.COMMITTING, result=b'{"ok":true}') is SagaState.COMMITTING

    assert (await run.begin()).code == "pivot"
    await run.land("mail")
    assert await run.move(SagaState.COMMITTED) is SagaState.COMMITTED

    session = await run.ledger.reader.session(run.id)
    assert (session.status, session.ended_at is not None) == ("completed", True)
    assert (await run.ledger.sagas.row(run.id)).result == {"ok": True}
    assert await run.move(SagaState.HELD) is SagaState.COMMITTED, "it has ended"


async def test_past_its_pivot_only_what_failed_behind_it_is_tried_again(run: Run) -> None:
    before = await run.land("quote", EffectState.FAILED)
    await run.land("pay", pivot=True)
    behind = await run.land("ticket", EffectState.FAILED)
    assert await run.move(SagaState.FORWARD_PENDING, reason="no tickets") is SagaState.FORWARD_PENDING

    await run.open(run_id="run-2")

    assert isinstance(await run.ledger.claim(replace(before, nonce="n")), Settled)
    again = await run.ledger.claim(replace(behind, nonce="n"))
    assert isinstance(again, Granted)
    assert again.keys_refused == 1, "under a new key: the service may remember its no"


@pytest.mark.parametrize("first", ["record", "begin"])
async def test_a_pivot_and_an_unwind_that_race_agree_on_who_was_first(run: Run, first: str) -> None:
    claim = run.claim("pay", pivot=True)
    granted = await run.ledger.claim(claim)
    assert isinstance(granted, Granted)
    record = step_record(claim, granted.token)
    races: dict[str, Callable[[], Awaitable[object]]] = {
        "record": lambda: run.ledger.record(record),
        "begin": run.begin,
    }
    async with run.owner.transaction():
        await run.owner.execute("SELECT FROM holdfast.saga WHERE id = $1 FOR UPDATE", run.id)
        one = asyncio.ensure_future(races.pop(first)())
        await until_locked_out(run.owner, 1)
        (other,) = (asyncio.ensure_future(each()) for each in races.values())
        await until_locked_out(run.owner, 2)
    await asyncio.gather(one, other)

    began = await run.begin()
    row = await run.ledger.sagas.row(run.id)
    if first == "record":
        assert (began.code, row.past_pivot, row.state) == ("pivot", True, SagaState.OPEN)
    else:
        assert (began.code, row.past_pivot, row.state) == (None, False, SagaState.UNWINDING)
        (step,) = await run.ledger.sagas.steps(run.id, run.id)
        assert step.state is EffectState.DONE, "a step of the plan like any other"


async def test_a_claim_of_a_step_waits_for_the_unwind_that_began_and_is_refused(run: Run) -> None:
    async with run.owner.transaction():
        await run.owner.execute("SELECT FROM holdfast.saga WHERE id = $1 FOR UPDATE", run.id)
        begin = asyncio.ensure_future(run.begin())
        await until_locked_out(run.owner, 1)
        claim = asyncio.ensure_future(run.ledger.claim(run.claim("hold")))
        await until_locked_out(run.owner, 2)
    await begin
    refused = await claim

    assert isinstance(refused, Refused)
    assert refused.code == "saga_closed"
    assert await run.ledger.sagas.steps(run.id, run.id) == ()


async def test_unfinished_sagas_are_found_page_by_page_and_those_that_wait_for_people_are_not(run: Run) -> None:
    others = [Run(run.ledger, run.owner) for _ in range(3)]
    for other in others:
        await other.open()
    await others[1].move(SagaState.HELD, reason="a person must say")
    found, after = [], None
    while True:
        page = await run.ledger.sagas.unfinished(after=after, limit=1, older_than=timedelta(0))
        found += [saga.saga_id for saga in page.sagas]
        if (after := page.next) is None:
            break

    mine = [each for each in found if each in {run.id, *(other.id for other in others)}]
    assert mine == [run.id, others[0].id, others[2].id]


async def test_a_saga_is_left_to_a_person_only_where_it_is_as_expected(run: Run) -> None:
    sagas = run.ledger.sagas

    assert not await sagas.hold(run.id, run.id, expected=SagaState.UNWINDING, reason="?")
    assert await sagas.hold(run.id, run.id, expected=SagaState.OPEN, reason="its workflow is not known here")

    assert (await sagas.row(run.id)).reason == "its workflow is not known here"
    refused = await run.ledger.claim(run.claim("hold"))
    assert isinstance(refused, Refused)


WHAT: tuple[Resolving, ...] = ("retry", "edit", "mark_done", "waive", "keep", "unwind", "abort")


@pytest.mark.parametrize("what", WHAT)
async def test_what_a_person_says_stands_in_the_ledger_once_with_author_and_reason(
    story: Story, what: Resolving
) -> None:
    call = await story.land()
    if what in ("retry", "edit", "mark_done", "waive"):
        await story.begin()
        await story.undo(call, EffectState.FAILED)
        assert await story.end(SagaState.STUCK) is SagaState.STUCK
    elif what != "abort":
        await story.conversation.ledger.sagas.hold(
            story.session_id, story.saga_id, expected=SagaState.OPEN, reason="undo or keep?"
        )
    about = call if what in ("edit", "mark_done", "waive") else None
    undo = (
        {"undo_tool": "release", "undo_version": "1", "undo_args": b'{"hold_id":"H-2"}'} if what == "edit" else {}
    )

    moved = await story.resolve(what, about, id="same", **undo)
    again = await story.resolve(what, about, id="same", **undo)

    assert moved == again
    assert moved.state is (SagaState.COMMITTED if what == "keep" else SagaState.UNWINDING)
    (said,) = await story.conversation.entries(Kind.SAGA_RESOLVED)
    assert (said["actor"], said["outcome"], said["effect_id"]) == ("bo", what, about.effect_id if about else None)
    assert b"it is right" in said["body"]


async def test_an_undo_that_a_person_lets_try_again_goes_under_a_new_key(story: Story) -> None:
    call = await story.land()
    await story.begin()
    await story.undo(call, EffectState.FAILED)
    await story.end(SagaState.STUCK)

    await story.resolve("retry")

    began = await story.begin("run-2")
    granted = await story.claim_undo(call, began.epoch)
    assert isinstance(granted, Granted)
    assert (granted.attempt, granted.keys_refused) == (1, 1)


async def test_an_undo_goes_with_the_arguments_that_a_person_gave_it(story: Story) -> None:
    call = await story.land()
    await story.begin()
    await story.undo(call, EffectState.FAILED)
    await story.end(SagaState.STUCK)
    given = b'{"hold_id":"H-2"}'

    await story.resolve("edit", call, undo_tool="release", undo_version="1", undo_args=given)

    began = await story.begin("run-2")
    step = await story.conversation.ledger.sagas.arguments(call.effect_id)
    assert step.undo_args == given
    granted = await story.claim_undo(call, began.epoch, args=given)
    assert isinstance(granted, Granted)
    assert granted.args == given
    (said,) = await story.conversation.entries(Kind.SAGA_RESOLVED)
    assert ids.salted_digest(call.salt, given).encode() in said["body"]


@pytest.mark.parametrize("what", ["retry", "edit", "mark_done", "waive", "keep"])
async def test_nobody_resolves_what_waits_for_nobody(story: Story, what: Resolving) -> None:
    call = await story.land()

    refused = await story.resolve(what, call)

    assert (refused.code, refused.state) == ("not_held", SagaState.OPEN)
    assert await story.conversation.entries(Kind.SAGA_RESOLVED) == []


async def test_a_saga_past_its_pivot_is_not_aborted_and_can_be_tried_further_or_left(run: Run) -> None:
    await run.land("pay", pivot=True)
    story = Story(Conversation(ledger=run.ledger, owner=run.owner, session_id=run.id))
    about: dict[str, Any] = {"saga_id": run.id}

    for what in ("abort", "unwind"):
        refused = await story.resolve(what, **about)
        assert refused.code == "pivot"
        assert "past its pivot" in refused.said
    await run.move(SagaState.HELD, reason="nobody knows")
    assert (await story.resolve("retry", **about)).state is SagaState.FORWARD_PENDING
    assert (await story.resolve("keep", **about)).state is SagaState.COMMITTED


@pytest.mark.parametrize(("standing", "code"), [("unknown", "in_doubt"), ("undone", "undone")])
async def test_what_nobody_knows_or_was_undone_is_not_kept(story: Story, standing: str, code: str) -> None:
    call = await story.land()
    if standing == "unknown":
        lost = await story.lose()
    await story.begin()
    if standing == "unknown":
        await story.settle(lost, tries=0)
    else:
        await story.undo(call)
    await story.end(SagaState.HELD)

    assert (await story.resolve("keep")).code == code


async def test_what_cannot_be_undone_is_waived_where_a_person_has_the_rest_undone(story: Story) -> None:
    final, call = await story.land(undo=None), await story.land()
    await story.begin()
    await story.end(SagaState.HELD, reason="payments are final")

    assert (await story.resolve("unwind", waive=(final.effect_id,))).state is SagaState.UNWINDING

    began = await story.begin("run-2")
    assert (await story.steps())[final.effect_id].waived == "may_stand"
    await story.undo(call, epoch=began.epoch)
    assert await story.end(SagaState.ABORTED, began.epoch) is SagaState.ABORTED
