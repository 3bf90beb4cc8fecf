"""Entries of any session as stored, one after the other: what `ledger query` and `ledger tail` give.

A body that is encrypted is not opened here: `body` is None and `body_hex` has the stored bytes.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from holdfast_ledger.positions import Position
from holdfast_ledger.views import View


class Line(View):
    """One entry and whose it is. With `prev` and `hash` whoever keeps lines holds a copy of the evidence."""

    cursor: str
    session_id: str
    agent: str
    seq: int
    kind: str
    at: datetime
    recorded_at: datetime
    turn: int | None
    call: str | None
    effect_id: str | None
    token: int | None
    saga_id: str | None
    tool: str | None
    tier: str | None
    outcome: str | None
    actor: str | None
    args_digest: str | None
    latency: timedelta | None
    fact_key: str
    key_id: str | None
    body: Any
    body_hex: str | None
    prev: str
    hash: str


_AS_THEY_ARE = (
    "session_id",
    "agent",
    "seq",
    "kind",
    "at",
    "recorded_at",
    "turn",
    "call",
    "effect_id",
    "token",
    "saga_id",
    "tool",
    "tier",
    "outcome",
    "actor",
    "args_digest",
    "fact_key",
    "key_id",
)


def line_of(row: asyncpg.Record) -> Line:
    plain = row["key_id"] is None
    return Line(
        **{name: row[name] for name in _AS_THEY_ARE},
        cursor=str(Position(row["recorded_at"], row["session_key"], row["seq"])),
        latency=None if row["latency_us"] is None else timedelta(microseconds=row["latency_us"]),
        body=json.loads(row["body"]) if plain else None,
        body_hex=None if plain else row["body"].hex(),
        prev=row["prev"].hex(),
        hash=row["hash"].hex(),
    )
