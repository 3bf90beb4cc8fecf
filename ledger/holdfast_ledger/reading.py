"""Reads for the CLI and for watchers. Reading changes nothing, anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from holdfast import ids
from holdfast.states import EffectState, SagaState, SessionStatus
from holdfast_ledger import parameters, places
from holdfast_ledger.database import Database
from holdfast_ledger.errors import (
    AmbiguousId,
    ContentErased,
    EffectMissing,
    KeyMissing,
    SagaMissing,
    SessionMissing,
)
from holdfast_ledger.sealing import ALTERED, CLEAR, Erased, Seal, is_sealed_text
from holdfast_ledger.vault import Vault
from holdfast_ledger.views import Approval, Archive, Attempt, Effect, Entry, Erasure, Saga, Session, Tokens, Turn

EVERYTHING = 2**31 - 1
"""A limit that is none."""
_SHOWN_IDS = 5  # of an ambiguous prefix


class Reader:
    """Questions to the ledger. Every method may raise `LedgerUnavailable`.

    What cannot be opened is None where it is a body, and says so where it is a text; what was altered raises
    `ContentAltered`.
    """

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def sessions(
        self,
        *,
        statuses: Sequence[SessionStatus] | None = None,
        agent: str | None = None,
        tenant: str | None = None,
        labels: Mapping[str, str] | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[Session]:
        """Newest first; each filter narrows, `labels` must all be there."""
        rows = await self._database.rows(
            "sessions",
            list(statuses) if statuses is not None else None,
            agent,
            tenant,
            parameters.clear_json(labels) if labels is not None else None,
            since,
            limit,
        )
        seals = await self._vault.of_all(row["id"] for row in rows)
        return [_session(row, seals[row["id"]]) for row in rows]

    async def session(self, session_id: str) -> Session:
        """Raises `SessionMissing`."""
        row = await self._database.row("session", session_id)
        if row is None:
            raise SessionMissing(f"There is no session `{session_id}`.")
        return _session(row, await self._vault.of(session_id))

    async def session_id(self, prefix: str) -> str:
        """The one session whose id is, or begins with, `prefix`. Raises `SessionMissing`, `AmbiguousId`."""
        found = await self._one_id("session_ids", prefix, "session")
        if found is None:
            raise SessionMissing(f"There is no session whose id begins with `{prefix}`.")
        return found

    async def effect_id(self, prefix: str) -> str:
        """The one effect whose id is, or begins with, `prefix`. Raises `EffectMissing`, `AmbiguousId`."""
        found = await self._one_id("effect_ids", prefix, "effect")
        if found is None:
            raise EffectMissing(f"There is no effect whose id begins with `{prefix}`.")
        return found

    async def saga_id(self, prefix: str) -> str:
        """The one saga whose id is, or begins with, `prefix`. Raises `SagaMissing`, `AmbiguousId`."""
        found = await self._one_id("saga_ids", prefix, "saga")
        if found is None:
            raise SagaMissing(f"There is no saga whose id begins with `{prefix}`.")
        return found

    async def _one_id(self, statement: str, prefix: str, noun: str) -> str | None:
        found = [row["id"] for row in await self._database.rows(statement, prefix, _SHOWN_IDS + 1)]
        if prefix in found or len(found) <= 1:
            return prefix if prefix in found else next(iter(found), None)
        shown = ", ".join(f"`{each}`" for each in found[:_SHOWN_IDS])
        more = ", ..." if len(found) > _SHOWN_IDS else ""
        raise AmbiguousId(f"More than one {noun} id begins with `{prefix}`: {shown}{more}. Give more of it.")

    async def timeline(self, session_id: str, *, after: int = 0, limit: int = EVERYTHING) -> list[Entry]:
        """Entries with a sequence number above `after`, oldest first. Empty for an unknown session."""
        rows = await self._database.rows("timeline", session_id, after, limit)
        seal = await self._vault.of(session_id) if rows else CLEAR
        return [_entry(row, seal) for row in rows]

    async def content(self, session_id: str, digests: Iterable[str]) -> dict[str, Any]:
        """Stored messages, decoded, by digest; those that are not there, or were erased, are left out."""
        rows = await self._database.rows("content", session_id, list(digests))
        seal = await self._vault.of(session_id) if rows else CLEAR
        found = {row["digest"]: _opened(seal, places.content(row["digest"]), row["body"]) for row in rows}
        return {digest: body for digest, body in found.items() if body is not None}

    async def newest_head(self, session_id: str) -> str:
        """The end of the branch of the transcript that was written last, for `Ledger.transcript`."""
        row = await self._database.row("newest_head", session_id)
        return row["head"] if row else ids.first_head(session_id)

    async def approvals(
        self, *, session_id: str | None = None, pending: bool = True, limit: int = EVERYTHING
    ) -> list[Approval]:
        """What waits for a person, oldest first; with `pending` False also what was decided."""
        rows = await self._database.rows("approvals", session_id, pending, limit)
        seals = await self._vault.of_all(row["session_id"] for row in rows)
        return [_approval(row, seals[row["session_id"]]) for row in rows]

    async def effects(
        self,
        *,
        session_id: str | None = None,
        states: Sequence[EffectState] | None = None,
        tool: str | None = None,
        since: datetime | None = None,
        kind: str | None = None,
        limit: int = EVERYTHING,
    ) -> list[Effect]:
        """Effects by session, then in the order they were planned; each filter narrows."""
        wanted = list(states) if states is not None else None
        rows = await self._database.rows("effects", session_id, wanted, tool, since, None, kind, limit)
        seals = await self._vault.of_all(row["session_id"] for row in rows)
        return [_effect(row, seals[row["session_id"]]) for row in rows]

    async def effect(self, effect_id: str) -> Effect:
        """Raises `EffectMissing`."""
        row = await self._database.row("effects", None, None, None, None, effect_id, None, 1)
        if row is None:
            raise EffectMissing(f"There is no effect `{effect_id}`.")
        return _effect(row, await self._vault.of(row["session_id"]))

    async def attempts(self, effect_id: str) -> list[Attempt]:
        """All attempts of an effect, oldest first."""
        rows = await self._database.rows("attempts", effect_id)
        seal = await self._vault.of(rows[0]["session_id"]) if rows else CLEAR
        return [
            Attempt(
                **_but(row, "session_id", "latency_us", "evidence"),
                latency=_latency(row),
                evidence=_opened(seal, places.attempt("evidence", effect_id, row["token"]), row["evidence"]) or {},
            )
            for row in rows
        ]

    async def sagas(
        self,
        *,
        session_id: str | None = None,
        states: Sequence[SagaState] | None = None,
        limit: int = EVERYTHING,
    ) -> list[Saga]:
        """Sagas, oldest first; each filter narrows."""
        wanted = list(states) if states is not None else None
        rows = await self._database.rows("sagas", session_id, wanted, limit)
        seals = await self._vault.of_all(row["session_id"] for row in rows)
        return [
            Saga(**_but(row, "reason"), reason=_text(seals[row["session_id"]], places.REASON, row["reason"]))
            for row in rows
        ]

    async def erased(self, session_id: str) -> Erasure | None:
        """When, by whom and why the session's contents were erased; None where they were not."""
        row = await self._database.row("erasure", session_id)
        return Erasure(**row) if row else None

    async def archived(self, session_id: str) -> Archive | None:
        """Which file holds the session's record; None where it is here."""
        row = await self._database.row("archived", session_id)
        return Archive(**row) if row else None

    async def turns(self, session_id: str) -> list[Turn]:
        """All recorded turns, in the order they were recorded."""
        rows = await self._database.rows("turns", session_id)
        return [Turn(**_but(row, "latency_us", *_TOKENS), latency=_latency(row), usage=_usage(row)) for row in rows]


_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def _but(row: asyncpg.Record, *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def _usage(row: asyncpg.Record) -> Tokens:
    return Tokens(
        input=row["input_tokens"],
        output=row["output_tokens"],
        cache_read=row["cache_read_tokens"],
        cache_write=row["cache_write_tokens"],
    )


def _latency(row: asyncpg.Record) -> timedelta | None:
    return None if row["latency_us"] is None else timedelta(microseconds=row["latency_us"])


def _opened(seal: Seal, place: str, body: bytes | None) -> Any:
    """The body decoded; None where there is none, or nobody here can open it."""
    if body is None:
        return None
    try:
        return json.loads(places.opened(seal, place, body) or b"null")
    except (KeyMissing, ContentErased):
        return None


def _text(seal: Seal, place: str, text: str | None) -> str | None:
    return seal.open_text(place, text) if text else text


def _said(seal: Seal, place: str, body: bytes | None) -> Any:
    """A body the ledger's own functions may have written, in clear, around a person's sealed words."""
    said = _opened(seal, place, body)
    if isinstance(said, dict):
        for name in ("reason", "text"):
            if isinstance(said.get(name), str):
                said[name] = seal.open_text(places.REASON, said[name])
    return said


def _session(row: asyncpg.Record, seal: Seal) -> Session:
    return Session(
        **_but(row, "labels", "status_reason", *_TOKENS),
        status_reason=_text(seal, places.REASON, row["status_reason"]),
        labels=json.loads(row["labels"]),
        usage=_usage(row),
    )


def _entry(row: asyncpg.Record, seal: Seal) -> Entry:
    body = _said(seal, places.entry(row["fact_key"]), row["body"])
    if body is None and isinstance(seal, Erased):
        body = {"erased": seal.notice}
    columns = _but(row, "latency_us", "body", "hash", "fact_key")
    return Entry(**columns, latency=_latency(row), body=body, hash=row["hash"].hex())


def _approval(row: asyncpg.Record, seal: Seal) -> Approval:
    return Approval(
        **_but(row, "preview", "reason"),
        preview=_preview(seal, row, row["digest"]),
        reason=_text(seal, places.REASON, row["reason"]),
    )


def _preview(seal: Seal, row: asyncpg.Record, digest: str) -> str | None:
    """A person decides by it: in a session with a key only what was sealed for this very call is shown."""
    text = row["preview"]
    if text and seal.key_id is not None and not is_sealed_text(text):
        return ALTERED
    return _text(seal, places.preview(row["call"], digest), text)


def _effect(row: asyncpg.Record, seal: Seal) -> Effect:
    effect_id = row["effect_id"]
    return Effect(
        **_but(row, "latency_us", "outcome", "preview", "probe_said"),
        latency=_latency(row),
        outcome=_said(seal, places.effect("outcome", effect_id), row["outcome"]),
        preview=_preview(seal, row, row["fingerprint"]),
        probe_said=_text(seal, places.effect("probe_said", effect_id), row["probe_said"]),
    )
