"""Watching a session: its record as it grows, and what the model is saying right now.

A watcher listens first, then reads; it polls too, since a wake-up can be lost and is not to be had through
PgBouncer. Watching writes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import asyncpg

from holdfast.facts import Kind
from holdfast_ledger import chunks, places
from holdfast_ledger.database import Database
from holdfast_ledger.errors import LedgerError, LedgerUnavailable
from holdfast_ledger.reading import Reader
from holdfast_ledger.sealing import Seal
from holdfast_ledger.vault import Vault
from holdfast_ledger.views import Entry

POLL_S = 1.0
"""How often to look where wake-ups come."""
POLL_WITHOUT_LISTEN_S = 0.2
PATIENCE_S = 30.0
"""How long Postgres may be away before a watcher gives up."""
_PAGE = 500

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Told:
    """One more entry of the record. `message`: the content blocks of a recorded model turn."""

    entry: Entry
    message: Any = None


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """A piece of the running turn. `kind` is `text`, `thinking` or `tool_use`."""

    turn: int
    token: int
    kind: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Restarted:
    """Another attempt of the same turn begins: what was streamed of it before is void."""

    turn: int
    token: int


WatchEvent = Told | Streamed | Restarted


class Patience:
    """Asks Postgres again while it is away, for so long and no longer."""

    def __init__(
        self, *, for_s: float = PATIENCE_S, away: Callable[[LedgerUnavailable], None] = lambda error: None
    ) -> None:
        """`away` is told when Postgres went away, once each time."""
        self._for_s = for_s
        self._away = away

    async def ask(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Raises `LedgerUnavailable` once patience is over. `ask` may be called many times."""
        clock = asyncio.get_running_loop().time
        until: float | None = None
        while True:
            try:
                return await ask()
            except LedgerUnavailable as error:
                if until is None:
                    until = clock() + self._for_s
                    self._away(error)
                if clock() >= until:
                    raise
            await asyncio.sleep(POLL_WITHOUT_LISTEN_S)


class _View:
    """The model call a watcher shows: which attempt, and how far."""

    def __init__(self) -> None:
        self.turn = 0
        self.token = 0
        self.seq = -1
        self.running = False

    def follow(self, kind: str, turn: int, token: int) -> Restarted | None:
        """Take an intent or an answer of the model into account."""
        if kind == Kind.MODEL_TURN:
            self.running = False
            return None
        again = self.running and turn == self.turn and self.seq >= 0
        self.turn, self.token, self.seq, self.running = turn, token, -1, True
        return Restarted(turn=turn, token=token) if again else None


async def watch(
    database: Database,
    vault: Vault,
    session_id: str,
    *,
    after: int = 0,
    listen: bool = True,
    patience: Patience | None = None,
) -> AsyncIterator[WatchEvent]:
    """Events in the order they happened, for ever: the caller stops at the entry it waits for.

    Args:
        after: sequence number of the last entry already seen; chunks of the running turn come in any case.
        listen: False behind PgBouncer.

    Raises:
        LedgerUnavailable: when Postgres was away for longer than the patience lasts.
    """
    patient = patience or Patience()
    reader = Reader(database, vault)
    view = _View()
    seq = after
    async with _wake_ups(database, session_id, listen=listen) as wake:
        before = await patient.ask(partial(database.row, "streaming_turn", session_id, seq))
        if before is not None:
            view.follow(before["kind"], before["turn"], before["token"])
        while True:
            wake.clear()
            told = await patient.ask(partial(_told, reader, session_id, seq))
            for event in told:
                yield event
                seq = event.entry.seq
                restarted = _followed(view, event.entry)
                if restarted is not None:
                    yield restarted
            if len(told) == _PAGE:
                continue
            if view.running:
                for streamed in await patient.ask(partial(_streamed, database, vault, session_id, view)):
                    yield streamed
            await wake.wait()


def _followed(view: _View, entry: Entry) -> Restarted | None:
    if entry.kind not in (Kind.MODEL_INTENT, Kind.MODEL_TURN) or entry.turn is None or entry.token is None:
        return None
    return view.follow(entry.kind, entry.turn, entry.token)


async def _told(reader: Reader, session_id: str, after: int) -> list[Told]:
    entries = await reader.timeline(session_id, after=after, limit=_PAGE)
    digests = {
        entry.seq: entry.body["message"]
        for entry in entries
        if entry.kind == Kind.MODEL_TURN and entry.body is not None and "message" in entry.body
    }
    contents = await reader.content(session_id, set(digests.values())) if digests else {}
    return [Told(entry=entry, message=contents.get(digests.get(entry.seq, ""))) for entry in entries]


async def _streamed(database: Database, vault: Vault, session_id: str, view: _View) -> list[Streamed]:
    seal = await vault.of(session_id)
    rows = await database.rows("chunks", session_id, view.turn, view.token, view.seq)
    if rows:
        view.seq = rows[-1]["seq"]
    return [
        Streamed(turn=view.turn, token=view.token, kind=row["kind"], text=text)
        for row in rows
        if (text := _text(seal, places.chunk(view.turn, view.token, row["seq"]), row["body"]))
    ]


def _text(seal: Seal, place: str, body: bytes) -> str:
    """Empty for a watcher who cannot open it: the record tells the turn once it is done."""
    try:
        return seal.open(place, body).decode("utf-8", "surrogatepass")
    except LedgerError:
        return ""


@asynccontextmanager
async def _wake_ups(database: Database, session_id: str, *, listen: bool) -> AsyncIterator[asyncio.Event]:
    """An event that is set when the session may have changed. The channel is open before the block begins."""
    wake, listening = asyncio.Event(), asyncio.Event()
    ringing = asyncio.create_task(_ring(database, chunks.channel(session_id), wake, listening, listen=listen))
    try:
        await listening.wait()
        yield wake
    finally:
        ringing.cancel()
        await asyncio.wait([ringing])


async def _ring(
    database: Database, channel: str, wake: asyncio.Event, listening: asyncio.Event, *, listen: bool
) -> None:
    connection: asyncpg.Connection | None = None
    try:
        while True:
            if listen and (connection is None or connection.is_closed()):
                connection = await _listen(database, channel, wake)
            listening.set()
            wake.set()
            await asyncio.sleep(POLL_S if connection is not None else POLL_WITHOUT_LISTEN_S)
    finally:
        if connection is not None:
            connection.terminate()


async def _listen(database: Database, channel: str, wake: asyncio.Event) -> asyncpg.Connection | None:
    """A connection that sets `wake` for every notification; None while Postgres is away."""
    try:
        connection = await database.dedicated()
    except LedgerUnavailable:
        return None
    try:
        await connection.add_listener(channel, lambda *_: wake.set())
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()
        return None
    return connection
