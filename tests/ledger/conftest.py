"""One session of a ledger, driven by hand: what the activities do, without Temporal and without a model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from holdfast import ids
from holdfast.budget import Usage
from holdfast.catalogue import AgentSpec, Catalogue
from holdfast.facts import Fact, Kind
from holdfast.states import EffectState, RecoveryClass, Tier
from holdfast_ledger.records import (
    Claim,
    ClaimResult,
    Granted,
    Incoming,
    Opening,
    PlannedCall,
    Record,
    Recorded,
    StoredMessage,
    TurnRecord,
)
from holdfast_ledger.store import Ledger
from tests.conftest import Database

START = datetime(2026, 7, 1, 12, tzinfo=UTC)
CATALOGUE = Catalogue(agent=AgentSpec()).model_dump_json().encode()
LEASE = timedelta(seconds=15)


@dataclass
class Conversation:
    """A session and where it stands. `owner` may do everything, as a superuser."""

    ledger: Ledger
    owner: asyncpg.Connection
    session_id: str
    head: str = ""
    turn: int = 0
    request: int = 1
    planned: dict[str, PlannedCall] = field(default_factory=dict)
    said: int = 0

    @property
    def saga_id(self) -> str:
        return f"{self.session_id}/request-{self.request}"

    async def open(self, **changes: Any) -> None:
        opening = Opening(
            session_id=self.session_id,
            first_run_id=f"run-of-{self.session_id}",
            agent="default",
            model="claude",
            catalogue_digest=ids.digest(CATALOGUE),
            catalogue=CATALOGUE,
            requested_by="ana",
            on_behalf_of=None,
            tenant=None,
            roles=("clerk",),
            labels={"team": "travel"},
            started_at=START,
        )
        await self.ledger.open_session(replace(opening, **changes))
        self.head = ids.first_head(self.session_id)

    def user_message(self, content: Any = "hello") -> Incoming:
        body = ids.canonical(content)
        digest = ids.digest(body)
        head = ids.next_head(self.head, digest)
        return Incoming(head=head, parent=self.head, role="user", digest=digest, turn=self.turn + 1, body=body)

    def model_claim(self, *incoming: Incoming, **changes: Any) -> Claim:
        turn = self.turn + 1
        head = incoming[-1].head if incoming else self.head
        claim = Claim(
            effect_id=ids.effect_id(self.session_id, ids.turn_path(turn), head),
            session_id=self.session_id,
            kind="model",
            turn=turn,
            recovery=RecoveryClass.RETRY,
            fingerprint=head,
            saga_id=self.saga_id,
            saga_epoch=1,
            request=self.request,
            attempts=0,
            lease=LEASE,
            worker="worker-1",
            parent=self.head,
            incoming=incoming,
        )
        return replace(claim, **changes)

    def planned_call(self, tool: str = "refund", **changes: Any) -> PlannedCall:
        self.said += 1
        use = f"toolu_{self.said}"
        turn = self.turn + 1
        args = ids.canonical({"amount": self.said})
        salt = b"salt"
        call = PlannedCall(
            effect_id=ids.effect_id(self.session_id, ids.call_path(turn, use), self.head),
            call=f"{turn}.{self.said}",
            tool_use_id=use,
            tool=tool,
            tool_version="1",
            tier=Tier.IRREVERSIBLE,
            recovery=RecoveryClass.OPERATOR,
            args=args,
            salt=salt,
            digest=ids.salted_digest(salt, args),
            preview="amount: ...",
        )
        return replace(call, **changes)

    def turn_record(self, claim: Claim, token: int, *calls: PlannedCall, **changes: Any) -> TurnRecord:
        body = ids.canonical([{"type": "text", "text": f"turn {claim.turn}"}])
        head = claim.incoming[-1].head if claim.incoming else str(claim.parent)
        record = TurnRecord(
            effect_id=claim.effect_id,
            session_id=self.session_id,
            token=token,
            turn=claim.turn,
            head=head,
            next_head=ids.next_head(head, ids.digest(body)),
            digest=ids.digest(body),
            body=body,
            outcome={"stop_reason": "tool_use" if calls else "end_turn"},
            stop_reason="tool_use" if calls else "end_turn",
            model_asked="claude",
            model_answered="claude-1",
            usage=Usage(input=10, output=5),
            usd=Decimal("0.25"),
            latency=timedelta(milliseconds=1500),
            request_digest="r" * 64,
            calls=calls,
            saga_id=claim.saga_id,
            saga_epoch=claim.saga_epoch,
        )
        return replace(record, **changes)

    async def take_turn(self, *calls: PlannedCall, content: Any = "hello", **changes: Any) -> Recorded:
        """One whole model turn that plans `calls`."""
        claim = self.model_claim(self.user_message(content))
        granted = await self.ledger.claim(claim)
        assert isinstance(granted, Granted)
        record = self.turn_record(claim, granted.token, *calls, **changes)
        recorded = await self.ledger.record_turn(record)
        self.turn, self.head = claim.turn, record.next_head
        return recorded

    def call_claim(self, call: PlannedCall, **changes: Any) -> Claim:
        claim = Claim(
            effect_id=call.effect_id,
            session_id=self.session_id,
            kind="call",
            turn=self.turn,
            call=call.call,
            tool=call.tool,
            tier=call.tier,
            recovery=call.recovery,
            fingerprint=call.digest,
            saga_id=self.saga_id,
            saga_epoch=1,
            request=self.request,
            attempts=3,
            lease=LEASE,
            worker="worker-1",
            authorization={"verdict": "allow", "rule": "tier", "approver": None},
        )
        return replace(claim, **changes)

    async def plan(self, recovery: RecoveryClass = RecoveryClass.OPERATOR, **changes: Any) -> PlannedCall:
        """A recorded turn that planned one call of this recovery class."""
        call = self.planned_call(recovery=recovery, **changes)
        await self.take_turn(call)
        return call

    async def grant(self, call: PlannedCall, **changes: Any) -> Granted:
        result = await self.ledger.claim(self.call_claim(call, **changes))
        assert isinstance(result, Granted), result
        return result

    async def claim(self, call: PlannedCall, **changes: Any) -> ClaimResult:
        return await self.ledger.claim(self.call_claim(call, **changes))

    async def record(self, call: PlannedCall, token: int, state: EffectState, **changes: Any) -> Recorded:
        status = "ok" if state is EffectState.DONE else "error"
        record = Record(
            effect_id=call.effect_id,
            session_id=self.session_id,
            token=token,
            state=state,
            outcome={"status": status, "text": f"attempt {token} says {state.lower()}"},
            latency=timedelta(milliseconds=20),
        )
        return await self.ledger.record(replace(record, **changes))

    async def transcript(self, head: str) -> tuple[StoredMessage, ...]:
        """As this worker has it, which is as any other reads it."""
        own = await self.ledger.transcript(self.session_id, head)
        assert own == await self.another_worker.transcript(self.session_id, head)
        return own

    @property
    def another_worker(self) -> Ledger:
        """One that remembers nothing."""
        return Ledger(self.ledger.database, self.ledger.vault)

    async def expire_lease(self, call: PlannedCall) -> None:
        await self.expire_lease_of(call.effect_id)

    async def expire_lease_of(self, effect_id: str) -> None:
        await self.owner.execute(
            "UPDATE holdfast.effect SET lease_until = clock_timestamp() - interval '1 second' WHERE effect_id = $1",
            effect_id,
        )

    async def effect(self, call: PlannedCall) -> asyncpg.Record:
        row = await self.owner.fetchrow("SELECT * FROM holdfast.effect WHERE effect_id = $1", call.effect_id)
        assert row is not None
        return row

    async def entries(self, kind: Kind | None = None) -> list[asyncpg.Record]:
        return await self.owner.fetch(
            "SELECT e.* FROM holdfast.entry e JOIN holdfast.session s USING (session_key) "
            "WHERE s.id = $1 AND ($2::text IS NULL OR e.kind = $2) ORDER BY seq",
            self.session_id,
            kind,
        )

    def fact(self, kind: Kind, key: str, **changes: Any) -> Fact:
        return Fact(key=key, kind=kind, at=changes.pop("at", START), **changes)


@asynccontextmanager
async def connected(database: Database, at: Conversation | None = None) -> AsyncIterator[Conversation]:
    """The session `trip-1` of a database, where `at` says it stands."""
    ledger = await Ledger.connect(database.dsn)
    owner = await asyncpg.connect(database.owner_dsn)
    fresh = Conversation(ledger=ledger, owner=owner, session_id="trip-1")
    try:
        yield replace(at, ledger=ledger, owner=owner) if at else fresh
    finally:
        await owner.close()
        await ledger.close()


@pytest.fixture
async def conversation(ledger: Ledger, owner: asyncpg.Connection) -> Conversation:
    """An open session without a turn."""
    conversation = Conversation(ledger=ledger, owner=owner, session_id="trip-1")
    await conversation.open()
    return conversation
