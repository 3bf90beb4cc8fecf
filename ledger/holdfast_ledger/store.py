"""The ledger as activities and clients use it: one method per SQL function, one round trip each.

Every method may raise `LedgerUnavailable` (Postgres cannot be reached: wait and retry); serialization failures
and deadlocks are retried in process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Protocol

import asyncpg

from holdfast import ids
from holdfast.catalogue import Catalogue
from holdfast.facts import Fact
from holdfast.states import EffectState
from holdfast_ledger import (
    chunks,
    claims,
    effects,
    parameters,
    places,
    schema_versions,
    transcript,
    turns,
    watching,
)
from holdfast_ledger.database import Database, named_sql
from holdfast_ledger.errors import LedgerError, WrongTemporal, translated
from holdfast_ledger.master_keys import KeyService
from holdfast_ledger.outcomes import recorded as recorded_row
from holdfast_ledger.reading import Reader
from holdfast_ledger.records import (
    Chunk,
    Claim,
    ClaimResult,
    Closing,
    Doubt,
    Granted,
    LivingSessions,
    Opening,
    Record,
    Recorded,
    Registered,
    Registration,
    Resolution,
    StoredMessage,
    TurnRecord,
)
from holdfast_ledger.sagas import Sagas
from holdfast_ledger.sealing import CLEAR
from holdfast_ledger.vault import Encryption, Vault, proposed

STALL = timedelta(minutes=1)


class Observer(Protocol):
    """Hears what this process wrote, so that watchers need not poll. Returns at once and never raises."""

    def changed(self, session_id: str) -> None: ...

    def turn_recorded(self, session_id: str, turn: int) -> None: ...


class Ledger:
    """A pool of connections as the app role, and the functions it may call."""

    def __init__(self, database: Database, vault: Vault | None = None) -> None:
        self.database = database
        self.vault = vault or Vault(database)
        self.reader = Reader(database, self.vault)
        self.sagas = Sagas(database, self.vault, changed=self._changed)
        self.observer: Observer | None = None
        self._catalogues: dict[str, Catalogue] = {}
        self._transcripts = transcript.Transcripts()

    @classmethod
    async def connect(
        cls,
        dsn: str,
        *,
        min_size: int = 1,
        max_size: int = 10,
        pgbouncer: bool = False,
        keys: KeyService | None = None,
        encryption: Encryption = "auto",
    ) -> Ledger:
        """Args:
        pgbouncer: the DSN leads through PgBouncer in transaction mode, so nothing is prepared.
        keys: wraps the sessions' data keys; without it encrypted sessions are closed to this process.
        encryption: of sessions that begin here.
        """
        database = await Database.connect(dsn, min_size=min_size, max_size=max_size, pgbouncer=pgbouncer)
        return cls(database, Vault(database, keys, encryption=encryption))

    async def close(self) -> None:
        await self.database.close()

    async def check(self, *, cluster_id: str, namespace: str) -> None:
        """Refuse a schema of another version (`SchemaMismatch`) or the wrong Temporal (`WrongTemporal`).

        The first worker that checks binds the ledger to its Temporal.
        """
        schema_versions.check(await self.database.rows("schema_versions"), self.database.where)
        bound = await self.database.one("bind", cluster_id, namespace)
        if (bound["bound_cluster_id"], bound["bound_namespace"]) != (cluster_id, namespace):
            raise WrongTemporal(
                f"The ledger in Postgres at {self.database.where} belongs to Temporal cluster "
                f"`{bound['bound_cluster_id']}`, namespace `{bound['bound_namespace']}`; this is cluster "
                f"`{cluster_id}`, namespace `{namespace}`. Use that Temporal, or another database."
            )

    async def register(self, registration: Registration) -> Registered:
        """Announce a session. Raises `SessionIdReused` for the same id with another start."""
        columns = {
            "session_id": registration.session_id,
            "agent": registration.agent,
            "start_digest": registration.start_digest,
            "requested_by": registration.requested_by,
            "on_behalf_of": registration.on_behalf_of,
            "tenant": registration.tenant,
            "labels": dict(registration.labels),
        }
        proposal = await self.vault.propose(registration.session_id)
        row = await self.database.one("register_session", parameters.clear_json({**columns, **proposed(proposal)}))
        if row["fresh"]:
            self.vault.made(registration.session_id, proposal)
        return Registered(fresh=row["fresh"], status=row["status"], first_run_id=row["first_run_id"])

    async def store_message(self, session_id: str, body: bytes) -> str:
        """Store a user message's content (canonical JSON of text or blocks) and return its digest.

        Raises `SessionMissing`.
        """
        digest = ids.digest(body)
        seal = await self.vault.of(session_id)
        await self.database.rows("store_content", session_id, digest, seal.seal(places.content(digest), body))
        return digest

    async def open_session(self, opening: Opening) -> str:
        """Write the row, the catalogue and the first entry; idempotent per first_run_id.

        Returns the digest of the catalogue that the session was opened with, by this call or an earlier one.

        Raises `SessionIdReused` when another workflow chain already used this id.
        """
        columns = {
            "session_id": opening.session_id,
            "first_run_id": opening.first_run_id,
            "agent": opening.agent,
            "model": opening.model,
            "catalogue_digest": opening.catalogue_digest,
            "requested_by": opening.requested_by,
            "on_behalf_of": opening.on_behalf_of,
            "tenant": opening.tenant,
            "roles": list(opening.roles),
            "labels": dict(opening.labels),
            "started_at": opening.started_at,
            "task_queue": opening.task_queue,
        }
        # Only facts need the key before it is known what the session has: the answer brings it.
        seal = await self.vault.find(opening.session_id, ask=bool(opening.outbox))
        proposal = await self.vault.propose(opening.session_id) if seal is None else None
        row = await self.database.one(
            "open_session",
            parameters.clear_json({**columns, **proposed(proposal), "sealed_only": self.vault.required}),
            opening.catalogue,
            ids.canonical({**columns, "started_at": opening.started_at.isoformat()}),
            *parameters.facts(opening.outbox, seal or (proposal.key if proposal else CLEAR)),
        )
        await self.vault.took(opening.session_id, proposal, row if row["key_id"] else None)
        self._changed(opening.session_id)
        return str(row["catalogue_digest"])

    async def refuse_session(self, session_id: str, reason: str, at: datetime) -> None:
        """Say that an announced session was never opened; one that was opened is left alone."""
        await self.database.rows("refuse_session", session_id, parameters.clear(reason), at)
        self._changed(session_id)

    async def catalogue(self, digest: str) -> Catalogue:
        """Load by digest; cached, since it is immutable. Raises `LedgerError` where it is not stored."""
        known = self._catalogues.get(digest)
        if known is None:
            row = await self.database.row("catalogue", digest)
            if row is None:
                raise LedgerError(f"Postgres at {self.database.where} has no catalogue `{digest}`.")
            known = self._catalogues[digest] = Catalogue.model_validate_json(row["body"])
        return known

    async def claim(self, claim: Claim) -> ClaimResult:
        """Ask for an effect. Raises `LedgerConflict` where the outbox holds a fact told otherwise before."""
        result = await claims.claim(self.database, self.vault, claim)
        if claim.kind == "model" and isinstance(result, Granted) and result.token == 1:
            self._transcripts.claimed(claim)
        self._changed(claim.session_id)
        return result

    async def lost_attempts(self, effect_id: str) -> int:
        """How many attempts at a model turn may have been billed without an answer."""
        return await effects.lost_attempts(self.database, effect_id)

    async def renew(self, effect_id: str, token: int, lease: timedelta) -> bool:
        """Extend the lease; False when a newer attempt holds the effect."""
        return await effects.renew(self.database, effect_id, token, lease)

    async def refuse_key(self, effect_id: str, token: int, lease: timedelta) -> int | None:
        """Its service refuses the effect's key from now on. Returns how many that makes, and extends the lease.

        None when a newer attempt holds the effect.
        """
        return await effects.refuse_key(self.database, effect_id, token, lease)

    async def record(self, record: Record) -> Recorded:
        """End an attempt. The same record again, after its answer was lost, is accepted again."""
        recorded = await effects.record(self.database, self.vault, record)
        if recorded.accepted:
            self._transcripts.settled(record, recorded)
        self._changed(record.session_id)
        return recorded

    async def resolve(self, found: Resolution) -> Recorded:
        """Settle an UNKNOWN effect, or open it again. Not accepted where it is not in doubt any more.

        Raises `EffectMissing`, `SessionMissing`.
        """
        recorded = await effects.resolve(self.database, self.vault, found)
        self._changed(found.session_id)
        return recorded

    async def doubt(self, effect_id: str) -> Doubt | None:
        """The effect as a probe needs it; None where it is not here."""
        return await effects.doubt(self.database, self.vault, effect_id)

    async def note_probe(self, session_id: str, effect_id: str, said: str) -> EffectState:
        """Keep what a probe of an UNKNOWN effect said that could not tell. Returns where the effect stands."""
        return await effects.note_probe(self.database, self.vault, session_id, effect_id, said)

    async def record_turn(self, turn: TurnRecord) -> Recorded:
        """Commit a model turn. The same record again, after its answer was lost, is accepted again."""
        recorded = await turns.record_turn(self.database, self.vault, turn)
        if recorded.accepted:
            self._transcripts.answered(turn)
        if self.observer is not None:
            self.observer.turn_recorded(turn.session_id, turn.turn)
        return recorded

    @asynccontextmanager
    async def transaction(self, *, stall: timedelta = STALL) -> AsyncIterator[Any]:
        """The recording transaction of a `Transactional` tool; yields the asyncpg connection.

        `stall`: how long it may say nothing before Postgres ends it. It holds locks of its session, and a worker
        that stopped, or whose machine is gone without a word, would keep them.
        """
        async with self.database.transaction() as connection:
            with translated(self.database.where):
                await connection.fetch(named_sql()["end_when_stalled"], f"{stall // timedelta(milliseconds=1)}ms")
            yield connection

    async def record_within(self, connection: asyncpg.Connection, record: Record) -> Recorded:
        """`record`, inside `transaction`. Raise to roll both back when it is not accepted."""
        seal = await self.vault.of(record.session_id)
        with translated(self.database.where):
            rows = await connection.fetch(named_sql()["record_effect"], *effects.record_parameters(record, seal))
        return recorded_row(rows[0], record.effect_id, seal)

    async def append(self, session_id: str, facts: tuple[Fact, ...]) -> None:
        """Append facts and apply them to the projections (status, approvals). The same fact twice is one entry.

        Raises `LedgerConflict` for the same key with another body, `FactRefused` for a kind that only the
        ledger's own functions write, `SessionMissing`.
        """
        if facts:
            seal = await self.vault.of(session_id)
            await self.database.rows("append_facts", session_id, *parameters.facts(facts, seal))
            self._changed(session_id)

    async def transcript(self, session_id: str, head: str) -> tuple[StoredMessage, ...]:
        """All messages up to `head`, along its own branch; of what this process knows of them none is read again.

        Raises `holdfast.errors.HeadMissing`.
        """
        seal = await self.vault.of(session_id)
        return await transcript.transcript(self.database, seal, session_id, head, self._transcripts)

    async def result(self, session_id: str, call: str) -> bytes | None:
        """The whole result of a call (for `read_result`), or None."""
        row = await self.database.row("call_result", session_id, call)
        if row is None or row["result"] is None:
            return None
        seal = await self.vault.of(session_id)
        return seal.open(places.effect("result", row["effect_id"]), row["result"])

    async def living_sessions(self, task_queue: str, *, after: str | None, limit: int) -> LivingSessions:
        """Sessions of the queue that have not ended, oldest first, after a cursor."""
        rows = await self.database.rows("living_sessions", task_queue, after, limit)
        full = len(rows) == limit
        return LivingSessions(
            sessions=tuple(row["id"] for row in rows), next=str(rows[-1]["session_key"]) if full else None
        )

    async def unended(self, session_ids: Sequence[str]) -> tuple[str, ...]:
        """Those of them that have not ended."""
        return tuple(row["id"] for row in await self.database.rows("unended", list(session_ids)))

    async def close_session(self, closing: Closing) -> None:
        """Write the last entry and the final status, and give an open saga its end."""
        seal = await self.vault.of(closing.session_id)
        columns = {
            "session_id": closing.session_id,
            "status": closing.status,
            "reason": seal.seal_text(places.REASON, closing.reason) if closing.reason else "",
            "at": closing.at,
            "saga_id": closing.saga_id,
        }
        await self.database.rows(
            "close_session",
            parameters.clear_json(columns),
            seal.seal(
                places.entry("@closed/"), ids.canonical({"status": closing.status, "reason": closing.reason})
            ),
            *parameters.facts(closing.outbox, seal),
        )
        self.vault.forget(closing.session_id)
        self._transcripts.forget(closing.session_id)
        self._changed(closing.session_id)

    async def write_chunks(self, batch: list[Chunk]) -> None:
        """Insert a batch into the unlogged table and notify the sessions' watchers; used by the flusher only."""
        await chunks.write(self.database, self.vault, batch)

    def watch(
        self, session_id: str, *, after: int = 0, patience: watching.Patience | None = None
    ) -> AsyncIterator[watching.WatchEvent]:
        """See `holdfast_ledger.watching.watch`."""
        listen = not self.database.pgbouncer
        return watching.watch(self.database, self.vault, session_id, after=after, listen=listen, patience=patience)

    def _changed(self, session_id: str) -> None:
        if self.observer is not None:
            self.observer.changed(session_id)
