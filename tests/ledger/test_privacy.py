"""A session with a key: its contents stand nowhere in clear, open in their own place, and can be destroyed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest

from benchmarks.statements import counted
from holdfast import ids
from holdfast.facts import Fact, Kind
from holdfast.states import EffectState, RecoveryClass
from holdfast_ledger.errors import (
    ContentAltered,
    ContentErased,
    ErasureRefused,
    KeyMissing,
    LedgerConflict,
    SealedOtherwise,
)
from holdfast_ledger.master_keys import MasterKeys
from holdfast_ledger.privacy import erase, rotate
from holdfast_ledger.records import Chunk, Closing, PlannedCall, Registration, Resolution, Undo
from holdfast_ledger.store import Ledger
from holdfast_ledger.vault import Encryption
from holdfast_ledger.verify import verify_session
from tests.conftest import Database
from tests.ledger.conftest import START, Conversation

OLD = MasterKeys(newest="2025", keys={"2025": b"o" * 32})
BOTH = MasterKeys(newest="2026", keys={"2026": b"n" * 32, "2025": b"o" * 32})
NEW = MasterKeys(newest="2026", keys={"2026": b"n" * 32})
YEARS = timedelta(days=10_000)
WORD = "Zanzibar"
"""In everything that people, models and tools say here."""
EVERYTHING = """
    SELECT format('SELECT %L AS place, t::text AS row FROM %I.%I t', c.relname, n.nspname, c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'holdfast' AND c.relkind = 'r' ORDER BY 1
"""


@asynccontextmanager
async def opened(
    database: Database, keys: MasterKeys | None = OLD, encryption: Encryption = "auto"
) -> AsyncIterator[Ledger]:
    ledger = await Ledger.connect(database.dsn, keys=keys, encryption=encryption)
    try:
        yield ledger
    finally:
        await ledger.close()


@pytest.fixture
async def sealed(database: Database, owner: asyncpg.Connection) -> AsyncIterator[Conversation]:
    """An open session with a key, without a turn."""
    async with opened(database) as ledger:
        conversation = Conversation(ledger=ledger, owner=owner, session_id="trip-1")
        await conversation.open()
        yield conversation


async def rows_with(owner: asyncpg.Connection, word: str) -> set[str]:
    """Tables that hold the word somewhere in a row, as text or as bytes."""
    found = set()
    for (query,) in await owner.fetch(EVERYTHING):
        for row in await owner.fetch(query):
            if word in row["row"] or word.encode().hex() in row["row"]:
                found.add(row["place"])
    return found


def asked(conversation: Conversation, call: PlannedCall) -> Fact:
    body = {"digest": call.digest, "preview": call.preview, "reason": f"{WORD} is far"}
    return conversation.fact(Kind.APPROVAL_ASKED, f"asked:{call.call}", call=call.call, body=body)


async def say_everything(conversation: Conversation) -> tuple[PlannedCall, PlannedCall, PlannedCall]:
    """Write each kind of content at least once. Returns the done, the unknown and the denied call."""
    ledger = conversation.ledger
    args = ids.canonical({"to": WORD})
    done = conversation.planned_call(args=args, preview=f"to: {WORD}")
    lost = conversation.planned_call(args=args, preview=f"to: {WORD}", recovery=RecoveryClass.PROBE)
    denied = conversation.planned_call(args=args, preview=f"to: {WORD}")
    body = ids.canonical([{"type": "text", "text": f"Off to {WORD}"}])
    await conversation.take_turn(
        done, lost, denied, content=f"Book {WORD}", body=body, digest=ids.digest(body), outcome={"say": WORD}
    )
    await ledger.append(conversation.session_id, (asked(conversation, done),))
    said = {"digest": denied.digest, "reason": f"never {WORD}"}
    await ledger.append(
        conversation.session_id,
        (
            asked(conversation, denied),
            conversation.fact(
                Kind.APPROVAL_DECIDED, "denied", call=denied.call, outcome="denied", actor="ben", body=said
            ),
            conversation.fact(Kind.SESSION_STATUS, "held", outcome="waiting", body={"reason": f"for {WORD}"}),
        ),
    )
    decided = conversation.fact(
        Kind.APPROVAL_DECIDED,
        "approved",
        call=done.call,
        outcome="approved",
        actor="ben",
        body={"digest": done.digest, "decision": "d1", "reason": WORD},
    )
    granted = await conversation.grant(
        done, decision="d1", authorization={"reason": WORD}, outbox=(decided,), use_within=YEARS
    )
    await conversation.record(
        done,
        granted.token,
        EffectState.DONE,
        outcome={"status": "ok", "text": WORD},
        result=json.dumps(WORD).encode(),
        shown=WORD.encode(),
        evidence={"said": WORD},
        undo=Undo(tool="unbook", version="1", args=args),
    )
    granted = await conversation.grant(lost)
    await conversation.record(lost, granted.token, EffectState.UNKNOWN, evidence={"said": WORD})
    await ledger.note_probe(conversation.session_id, lost.effect_id, f"{WORD} does not answer")
    await ledger.write_chunks(
        [Chunk(session_id=conversation.session_id, turn=9, token=1, seq=0, kind="text", text=WORD)]
    )
    return done, lost, denied


async def test_what_was_said_stands_nowhere_in_clear(sealed: Conversation, owner: asyncpg.Connection) -> None:
    await say_everything(sealed)

    assert await rows_with(owner, WORD) == set()
    assert await rows_with(owner, "trip-1")  # the search itself finds what is there


async def test_what_was_said_stands_in_clear_without_a_key(
    conversation: Conversation, owner: asyncpg.Connection
) -> None:
    await say_everything(conversation)

    everywhere = {"content", "effect", "attempt", "approval", "session", "chunk"}
    assert everywhere <= await rows_with(owner, WORD)


async def test_who_has_the_master_key_reads_everything_back(sealed: Conversation) -> None:
    done, lost, denied = await say_everything(sealed)
    ledger, reader = sealed.ledger, sealed.ledger.reader

    effects = {effect.effect_id: effect for effect in await reader.effects(session_id="trip-1", kind="call")}
    assert {effect.preview for effect in effects.values()} == {f"to: {WORD}"}
    assert effects[done.effect_id].outcome == {"status": "ok", "text": WORD}
    assert effects[done.effect_id].result_bytes == len(json.dumps(WORD))
    assert effects[lost.effect_id].probe_said == f"{WORD} does not answer"
    assert effects[denied.effect_id].outcome == {"status": "denied", "code": "denied", "text": f"never {WORD}"}
    asked_of = await reader.approvals(pending=False)
    assert {approval.preview for approval in asked_of} == {f"to: {WORD}"}
    assert {approval.reason for approval in asked_of} == {WORD, f"never {WORD}"}
    assert (await reader.session("trip-1")).status_reason == f"for {WORD}"
    assert [attempt.evidence for attempt in await reader.attempts(done.effect_id)] == [{"said": WORD}]
    said = [message.content for message in await ledger.transcript("trip-1", sealed.head)]
    assert said == [f"Book {WORD}", [{"type": "text", "text": f"Off to {WORD}"}]]
    assert await ledger.result("trip-1", done.call) == json.dumps(WORD).encode()
    doubt = await ledger.doubt(lost.effect_id)
    assert doubt is not None
    assert doubt.args == lost.args
    bodies = [entry.body for entry in await reader.timeline("trip-1")]
    assert None not in bodies
    assert json.dumps(bodies).count(WORD) >= 6


async def test_a_found_out_outcome_and_an_end_are_sealed_too(
    sealed: Conversation, owner: asyncpg.Connection
) -> None:
    _, lost, _ = await say_everything(sealed)
    found = Resolution(
        id="r1",
        effect_id=lost.effect_id,
        session_id="trip-1",
        state=EffectState.DONE,
        by="ben",
        reason=WORD,
        outcome={"status": "ok", "text": WORD},
        result=WORD.encode(),
    )

    assert (await sealed.ledger.resolve(found)).accepted
    assert (await sealed.ledger.resolve(found)).accepted  # told again, sealed with another nonce: the same fact
    await close(sealed, reason=WORD)

    assert await rows_with(owner, WORD) == set()
    assert (await sealed.ledger.reader.session("trip-1")).status_reason == WORD
    assert (await sealed.ledger.reader.timeline("trip-1"))[-1].body == {"status": "aborted", "reason": WORD}
    assert {saga.reason for saga in await sealed.ledger.reader.sagas(session_id="trip-1")} == {WORD}


async def close(conversation: Conversation, *, reason: str = "", status: str = "aborted") -> None:
    saga_id = conversation.saga_id
    await conversation.ledger.close_session(
        Closing(session_id=conversation.session_id, status=status, reason=reason, at=START + YEARS, saga_id=saga_id)
    )


async def test_without_the_master_key_contents_are_closed_and_nothing_is_written_beside_them(
    database: Database, sealed: Conversation
) -> None:
    done, _, _ = await say_everything(sealed)

    async with opened(database, None) as keyless:
        effect = await keyless.reader.effect(done.effect_id)
        assert (effect.preview, effect.outcome) == ("[encrypted]", None)
        assert (await keyless.reader.session("trip-1")).status_reason == "[encrypted]"
        with pytest.raises(KeyMissing):
            await keyless.transcript("trip-1", sealed.head)
        before = len(await sealed.entries())
        with pytest.raises(SealedOtherwise, match="give it the master keys"):
            await keyless.append("trip-1", (sealed.fact(Kind.LIMIT_REACHED, "limit:1"),))
        with pytest.raises(SealedOtherwise):
            await keyless.store_message("trip-1", b'"hello"')
        with pytest.raises(SealedOtherwise):
            await keyless.claim(sealed.model_claim())
        assert len(await sealed.entries()) == before
    async with opened(database, NEW) as other:
        with pytest.raises(KeyMissing, match="`2025`"):
            await other.reader.effect(done.effect_id)


async def test_rotation_wraps_every_key_anew_and_touches_no_body(
    database: Database, sealed: Conversation, owner: asyncpg.Connection
) -> None:
    done, _, _ = await say_everything(sealed)
    args = await owner.fetchval("SELECT args FROM holdfast.effect WHERE effect_id = $1", done.effect_id)

    async with opened(database, BOTH) as ledger:
        rotation = await rotate(ledger.database, ledger.vault, by="ops")
        again = await rotate(ledger.database, ledger.vault, by="ops")
    async with opened(database, NEW) as ledger:
        assert (await ledger.reader.effect(done.effect_id)).preview == f"to: {WORD}"

    assert (rotation.master_id, rotation.rewrapped, rotation.left) == ("2026", 1, {})
    assert again.rewrapped == 0
    assert await owner.fetchval("SELECT args FROM holdfast.effect WHERE effect_id = $1", done.effect_id) == args
    told = await owner.fetch("SELECT actor, body FROM holdfast.entry WHERE kind = 'keys_rotated'")
    assert [(row["actor"], json.loads(row["body"])["sessions"]) for row in told] == [("ops", 1)]


async def test_erasure_leaves_the_chain_whole_and_the_contents_to_nobody(
    database: Database, sealed: Conversation, owner: asyncpg.Connection
) -> None:
    done, lost, _ = await say_everything(sealed)
    await settle(sealed, lost)
    await close(sealed, reason=WORD, status="completed")
    counts = (await sealed.ledger.reader.session("trip-1")).model_dump(exclude={"status_reason"})
    entries = await sealed.entries()

    erased = await erase(sealed.ledger.database, sealed.ledger.vault, "trip-1", by="dpo", reason="asked for")
    again = await erase(sealed.ledger.database, sealed.ledger.vault, "trip-1", by="eve", reason="again")

    assert (erased.fresh, again.fresh, again.by) == (True, False, "dpo")
    assert await owner.fetch("SELECT FROM holdfast.session_key") == []
    assert await sealed.entries() == entries
    assert (await verify_session(sealed.ledger.database, "trip-1")).ok
    async with opened(database) as ledger:
        reader = ledger.reader
        assert (await reader.session("trip-1")).model_dump(exclude={"status_reason"}) == counts
        kept = await reader.erased("trip-1")
        assert kept is not None
        assert (kept.by, kept.reason) == ("dpo", "asked for")
        assert (await reader.effect(done.effect_id)).preview is None
        bodies = [entry.body for entry in await reader.timeline("trip-1")]
        assert WORD not in json.dumps(bodies)
        with pytest.raises(ContentErased, match="by dpo"):
            await ledger.transcript("trip-1", sealed.head)
    assert await owner.fetchval("SELECT max(octet_length(body)) FROM holdfast.content") == 0
    told = await owner.fetch("SELECT actor FROM holdfast.entry WHERE kind = 'session_erased'")
    assert [row["actor"] for row in told] == ["dpo"]


async def settle(conversation: Conversation, call: PlannedCall) -> None:
    await conversation.ledger.resolve(
        Resolution(
            id="r1",
            effect_id=call.effect_id,
            session_id=conversation.session_id,
            state=EffectState.DONE,
            by="ben",
            reason="seen",
            outcome={"status": "ok"},
        )
    )


async def test_nothing_is_erased_while_it_may_be_needed(sealed: Conversation, owner: asyncpg.Connection) -> None:
    async def refused(why: str) -> None:
        with pytest.raises(ErasureRefused, match=why):
            await erase(sealed.ledger.database, sealed.ledger.vault, "trip-1", by="dpo", reason="asked for")
        assert len(await owner.fetch("SELECT FROM holdfast.session_key")) == 1

    call = await sealed.plan()
    await refused("it has not ended")
    await sealed.record(call, (await sealed.grant(call)).token, EffectState.UNKNOWN)
    await close(sealed)
    await refused("a saga of it is not closed")


async def test_a_session_in_clear_cannot_be_erased_and_the_refusal_names_the_setting(
    conversation: Conversation,
) -> None:
    await close(conversation)

    with pytest.raises(ErasureRefused, match=r"append-only.*HOLDFAST_MASTER_KEYS"):
        await erase(conversation.ledger.database, conversation.ledger.vault, "trip-1", by="dpo", reason="asked")


async def turns_counted(database: Database, owner: asyncpg.Connection, keys: MasterKeys | None) -> Counter[str]:
    """The statements of a session's life in one process: opened, a turn with a call, closed."""
    with counted() as counts:
        async with opened(database, keys) as ledger:
            conversation = Conversation(ledger=ledger, owner=owner, session_id=f"trip-{keys is None}")
            await conversation.open()
            call = await conversation.plan()
            await conversation.record(call, (await conversation.grant(call)).token, EffectState.DONE)
            await close(conversation)
    return counts


async def test_the_same_fact_twice_is_one_entry_by_a_digest_of_its_session_alone(
    sealed: Conversation, owner: asyncpg.Connection
) -> None:
    fact = sealed.fact(Kind.LIMIT_REACHED, "limit:1", body={"reason": WORD})
    other = Conversation(ledger=sealed.ledger, owner=owner, session_id="trip-2")
    await other.open()

    await sealed.ledger.append("trip-1", (fact,))
    await sealed.ledger.append("trip-1", (fact,))  # its ciphertext differs
    await other.ledger.append("trip-2", (fact,))

    [one], [two] = await sealed.entries(Kind.LIMIT_REACHED), await other.entries(Kind.LIMIT_REACHED)
    assert one["fact_digest"] != two["fact_digest"]
    assert one["key_id"] != two["key_id"]
    with pytest.raises(LedgerConflict):
        await sealed.ledger.append("trip-1", (fact.model_copy(update={"body": {"reason": "another"}}),))


async def test_what_was_moved_to_another_row_or_written_in_clear_is_shown_to_nobody(
    sealed: Conversation, owner: asyncpg.Connection
) -> None:
    done, lost, _ = await say_everything(sealed)
    await owner.execute(
        "UPDATE holdfast.effect SET args = (SELECT args FROM holdfast.effect WHERE effect_id = $1), "
        "preview = (SELECT preview FROM holdfast.effect WHERE effect_id = $1) WHERE effect_id = $2",
        done.effect_id,
        lost.effect_id,
    )
    await owner.execute("UPDATE holdfast.approval SET preview = 'amount: 1'")

    with pytest.raises(ContentAltered):
        await sealed.ledger.doubt(lost.effect_id)
    assert (await sealed.ledger.reader.effect(lost.effect_id)).preview == "[altered]"
    asked_of = await sealed.ledger.reader.approvals(pending=False)
    assert {approval.preview for approval in asked_of} == {"[altered]"}


async def test_a_session_stays_as_it_began_and_encryption_can_be_off_or_required(
    database: Database, conversation: Conversation, owner: asyncpg.Connection
) -> None:
    async with opened(database) as ledger:
        conversation.ledger = ledger
        await conversation.plan()
        await ledger.append("trip-1", (conversation.fact(Kind.LIMIT_REACHED, "limit:1", body={"reason": WORD}),))
    assert {row["key_id"] for row in await conversation.entries()} == {None}

    async with opened(database, encryption="off") as ledger:
        other = Conversation(ledger=ledger, owner=owner, session_id="trip-2")
        await other.open()
        assert await owner.fetchval("SELECT key_id FROM holdfast.session WHERE id = 'trip-2'") is None
    async with opened(database, encryption="required") as ledger:
        conversation.ledger = ledger
        with pytest.raises(SealedOtherwise, match="started in clear"):
            await conversation.open()


async def test_encryption_costs_no_round_trip_but_one_where_a_worker_takes_over(
    database: Database, owner: asyncpg.Connection
) -> None:
    assert await turns_counted(database, owner, OLD) == await turns_counted(database, owner, None)

    with counted() as counts:
        async with opened(database) as ledger:
            taken_over = Conversation(ledger=ledger, owner=owner, session_id="trip-False")
            taken_over.head = await ledger.reader.newest_head("trip-False")
            await ledger.transcript("trip-False", taken_over.head)
            await ledger.append("trip-False", (taken_over.fact(Kind.LIMIT_REACHED, "limit:1"),))
    assert counts["session_keys"] == 1


async def test_an_announced_session_is_opened_under_the_key_its_client_made(
    database: Database, owner: asyncpg.Connection
) -> None:
    async with opened(database) as client, opened(database) as worker:
        conversation = Conversation(ledger=worker, owner=owner, session_id="trip-1")
        await client.register(
            Registration(session_id="trip-1", agent="default", start_digest="d", requested_by="ana")
        )
        digest = await client.store_message("trip-1", ids.canonical(WORD))
        fact = Fact(key="message:1", kind=Kind.MESSAGE_RECEIVED, at=START, body={"text": WORD})
        await conversation.open(outbox=(fact,))
        assert await client.reader.content("trip-1", [digest]) == {digest: WORD}
        assert [entry.body for entry in await client.reader.timeline("trip-1")][-1] == {"text": WORD}
