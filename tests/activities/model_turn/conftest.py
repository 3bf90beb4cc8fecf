"""A session whose model turns run by hand: real Postgres, the scripted model over HTTP, no Temporal server."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from temporalio.testing import ActivityEnvironment

from holdfast import ids
from holdfast.catalogue import AgentSpec, Catalogue
from holdfast.config import Config, EffectSettings, ToolEntry
from holdfast.contracts import CallRef, ModelTurn, Results, SagaRef, TurnResult, UserMessage
from holdfast_activities.attempt_report import AttemptReport
from holdfast_activities.messages_api.client import ModelSettings, open_client
from holdfast_activities.model_turn import ModelTurns
from holdfast_activities.tools.book import ToolBook, catalogue_body
from holdfast_ledger.records import Chunk, Opening
from holdfast_ledger.store import Ledger
from holdfast_workers.scripted_model import ScriptedModel, running

TOOLS = '''
from holdfast import Never, tool


@tool
def lookup(city: str, days: int = 1) -> str:
    """Look up the weather of a city, e.g. `Paris`."""
    return f"sun in {city}"


@tool(tier="irreversible", undo=Never("money is gone"), facts=lambda to, amount, password: {"amount": amount})
def transfer(to: str, amount: float, password: str = "") -> str:
    """Send money."""
    return "sent"
'''
_numbers = itertools.count(1)


class Kept:
    """A sink that keeps its chunks."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []

    def put(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)


class Session:
    """One session as its workflow would drive it."""

    def __init__(self, ledger: Ledger, turns: ModelTurns, catalogue: Catalogue, digest: str) -> None:
        self.id = f"session-{next(_numbers)}"
        self.ledger = ledger
        self.turns = turns
        self.catalogue = catalogue
        self.digest = digest
        self.head: str = ids.first_head(self.id)
        self.turn = 0
        self.chunks = Kept()
        self.reports: list[AttemptReport] = []

    def asks(self, *incoming: str | UserMessage | Results, final: str | None = None) -> ModelTurn:
        """The next turn, with these messages before it."""
        messages = tuple(_message(each) if isinstance(each, str) else each for each in incoming)
        head = self.head
        for message in messages:
            head = ids.next_head(head, message.digest)
        return ModelTurn(
            session_id=self.id,
            turn=self.turn + 1,
            parent=self.head,
            head=head,
            incoming=messages,
            catalogue=self.digest,
            saga=SagaRef(id=f"{self.id}/request-1"),
            final=final,
        )

    async def attempt(self, request: ModelTurn, env: ActivityEnvironment | None = None) -> TurnResult:
        """One attempt of the activity, with its errors."""
        return await (env or environment()).run(self.turns.model_turn, request)

    async def says(self, *incoming: str | Results, final: str | None = None) -> TurnResult:
        """A turn that works at once; the session goes on from it."""
        request = self.asks(*incoming, final=final)
        result = await self.attempt(request)
        self.goes_on(request, result)
        return result

    def goes_on(self, request: ModelTurn, result: TurnResult) -> None:
        assert result.message, result
        self.head = ids.next_head(request.head, result.message)
        self.turn = request.turn
        self._asked_at = request.head

    def results(self, result: TurnResult, status: str = "ok", text: str = "fine") -> Results:
        """The same outcome for every call of a turn."""
        calls = tuple(
            CallRef(
                tool_use_id=call.tool_use_id,
                status="error" if call.invalid else status,
                text=call.invalid or text,
            )
            for call in result.calls
        )
        return Results(turn=self.turn, turn_head=self._asked_at, calls=calls)

    async def transcript(self) -> tuple[Any, ...]:
        return await self.ledger.transcript(self.id, self.head)

    async def spoken(self) -> list[dict[str, Any]]:
        """The blocks of the last answer as stored."""
        last = (await self.transcript())[-1]
        assert last.role == "assistant"
        return list(last.content)

    async def row(self, request: ModelTurn, columns: str) -> Any:
        """Columns of the turn's effect row."""
        effect = ids.effect_id(self.id, ids.turn_path(request.turn), request.head)
        async with self.ledger.transaction() as connection:
            return await connection.fetchrow(f"SELECT {columns} FROM holdfast.effect WHERE effect_id = $1", effect)


def _message(text: str) -> UserMessage:
    return UserMessage(id=f"m{next(_numbers)}", digest=ids.digest(ids.canonical(text)), text=text)


def environment(**info: Any) -> ActivityEnvironment:
    env = ActivityEnvironment()
    env.info = dataclasses.replace(env.default_info(), scheduled_time=datetime.now(UTC), **info)
    return env


class Wire:
    """A TCP relay to Postgres that can be cut and mended."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        self._writers |= {writer, back}
        await asyncio.gather(_pump(reader, back), _pump(there, writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
    sink.close()


WEATHER = """
name: weather
description: Looks the weather up, again and again.
example: the weather
match: weather
turns:
  - calls: [{tool: lookup, input: {city: Paris}}]
    repeat: 50
"""
"""For test modules to import as their `SCRIPT`."""


@pytest.fixture
async def wire(database: Any) -> AsyncIterator[Wire]:
    parts = urlsplit(database.dsn)
    wire = Wire(parts.hostname, parts.port)
    await wire.mend()
    yield wire
    await wire.cut()


@pytest.fixture
async def ledger(database: Any, wire: Wire) -> AsyncIterator[Ledger]:
    parts = urlsplit(database.dsn)
    login = parts.netloc.rpartition("@")[0]
    ledger = await Ledger.connect(urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{wire.port}")))
    yield ledger
    await ledger.close()


@pytest.fixture
async def model(request: pytest.FixtureRequest) -> AsyncIterator[ScriptedModel]:
    """A scripted model; parametrize it indirectly with YAML, or use `SCRIPT` of the test module."""
    async with running(request.module.SCRIPT, shipped=False, name=None) as server:
        yield server


StartSession = Callable[..., Awaitable[Session]]


@pytest.fixture
async def start(ledger: Ledger, model: ScriptedModel, tmp_path: Path) -> AsyncIterator[StartSession]:
    """Open a session; keyword arguments are the agent's."""
    module = f"tools_{next(_numbers)}"  # modules are imported once per process
    (tmp_path / f"{module}.py").write_text(TOOLS)
    clients = []

    async def starting(
        tools: tuple[str, ...] = ("lookup", "transfer"),
        stall_timeout: float = 60.0,
        ledger: Ledger = ledger,
        **agent: Any,
    ) -> Session:
        settings = {"base_url": model.url, "api_key": "k", "stall_timeout": stall_timeout}
        client = open_client(ModelSettings.model_validate(settings))
        clients.append(client)
        entries = {name: ToolEntry(run=f"{module}:{name}") for name in ("lookup", "transfer")}
        spec = AgentSpec(name="clerk", tools=tools, **{"model": "claude-sonnet-5", **agent})
        book = ToolBook(Config(agents={"clerk": spec.model_dump()}, tools=entries), tmp_path)
        catalogue = book.catalogue("clerk")
        digest, body = catalogue_body(catalogue)
        chunks: Kept = Kept()
        reports: list[AttemptReport] = []
        turns = ModelTurns(
            ledger=ledger,
            client=client,
            book=book,
            chunks=chunks,
            worker="w",
            observe=reports.append,
            effects=EffectSettings(renewal=timedelta(milliseconds=20)),
        )
        session = Session(ledger, turns, catalogue, digest)
        session.chunks, session.reports = chunks, reports
        await ledger.open_session(
            Opening(
                session_id=session.id,
                first_run_id="run",
                agent="clerk",
                model=spec.model,
                catalogue_digest=digest,
                catalogue=body,
                requested_by="ada",
                on_behalf_of=None,
                tenant=None,
                roles=(),
                labels={},
                started_at=datetime.now(UTC),
            )
        )
        return session

    yield starting
    for client in clients:
        await client.close()
