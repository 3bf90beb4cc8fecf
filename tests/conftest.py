"""Real servers for the whole suite: one Temporal, one PostgreSQL, a fresh migrated database for each test."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil
import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle

from holdfast.messages import Principal
from holdfast_ledger.migrate import migrate
from holdfast_ledger.store import Ledger
from holdfast_workers.client import Holdfast
from holdfast_workers.converter import data_converter
from holdfast_workers.keys import KeySettings
from holdfast_workers.plugin import HoldfastPlugin
from holdfast_workers.scripted_model import ScriptedModel, running
from holdfast_workers.settings import ModelSettings, Settings, TemporalSettings
from holdfast_workers.stack.servers import ServerAddresses, embedded_servers
from holdfast_workers.temporal import connect_temporal
from holdfast_workers.worker import WorkerSettings, build_worker
from tests.waiting import until

TEMPLATE = "holdfast_template"
APP_LOGIN = "holdfast_test_app"
APP_PASSWORD = secrets.token_hex(8)


SETTLE_WITHIN_S = 20.0
HISTORIES = Path(__file__).parent / "workflows" / "histories"


IN_MEMORY = Path("/dev/shm")
ENOUGH_MEMORY = 6 << 30  # bytes; a whole run holds about 2 GiB at once

FIRST = (
    *("demo", "docs", "stack/test_kills", "chaos/test_slice", "crash_check", "packaging", "benchmarks"),
    *("stack", "chaos", "outages", "cli", "workflows"),
)
"""What takes longest, the longest first: a long file that begins last would be waited for alone."""


def pytest_configure(config: pytest.Config) -> None:
    """Temporary directories are in memory where there is plenty: each test's database is some 300 new files."""
    if in_memory():
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))
        forget_killed_runs()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in its background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # commands that are tested hear Ctrl-C


def forget_killed_runs() -> None:
    """Remove what runs left that were killed: pytest itself would keep it, in memory, for three days."""
    for lock in IN_MEMORY.glob("pytest-of-*/pytest-*/.lock"):
        with suppress(OSError, ValueError):  # somebody else's, or gone meanwhile
            if not psutil.pid_exists(int(lock.read_text())):
                shutil.rmtree(lock.parent, ignore_errors=True)


def in_memory() -> bool:
    try:
        room = os.statvfs(IN_MEMORY)
    except OSError:
        return False
    runs_programs = not room.f_flag & os.ST_NOEXEC
    free = min(room.f_bavail * room.f_frsize, psutil.virtual_memory().available)
    return runs_programs and os.access(IN_MEMORY, os.W_OK) and free >= ENOUGH_MEMORY


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make test` hands out whole files in this order (`--dist loadfile`): what a file shares is made once."""
    here = Path(__file__).parent

    def turn(item: pytest.Item) -> int:
        path = item.path.relative_to(here).as_posix()
        return next((turn for turn, first in enumerate(FIRST) if path.startswith(first)), len(FIRST))

    items.sort(key=turn)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="record the histories of tests marked golden")
    parser.addoption("--kills", type=int, default=0, help="kill each part of a stack at so many moments")
    parser.addoption("--uncached", action="store_true", help="workers keep no workflow: every task is a replay")


@dataclass(frozen=True, kw_only=True)
class Database:
    """One migrated database of its own. `dsn` is an app login's, `owner_dsn` may do everything."""

    dsn: str
    owner_dsn: str


@pytest.fixture(scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerAddresses]:
    home = tmp_path_factory.mktemp("servers")
    async with embedded_servers(home) as addresses:
        yield addresses


@pytest.fixture(scope="session")
async def template(servers: ServerAddresses) -> str:
    return await migrated_template(servers)


async def migrated_template(servers: ServerAddresses) -> str:
    """Make a migrated database to clone, and the app's login; returns its name."""
    owner = await asyncpg.connect(servers.postgres_dsn)
    try:
        await owner.execute(f"CREATE DATABASE {TEMPLATE}")
        await migrate(with_database(servers.postgres_dsn, TEMPLATE))
        await owner.execute(f"CREATE ROLE {APP_LOGIN} LOGIN PASSWORD '{APP_PASSWORD}' IN ROLE holdfast_app")
    finally:
        await owner.close()
    return TEMPLATE


@pytest.fixture
async def database(servers: ServerAddresses, template: str) -> AsyncIterator[Database]:
    async with cloned(servers, template) as database:
        yield database


@asynccontextmanager
async def cloned(servers: ServerAddresses, template: str) -> AsyncIterator[Database]:
    """A clone of the template, dropped after the block."""
    name = f"test_{secrets.token_hex(6)}"
    await execute(servers.postgres_dsn, f"CREATE DATABASE {name} TEMPLATE {template}")
    dsn = with_database(servers.postgres_dsn, name)
    yield Database(owner_dsn=dsn, dsn=with_login(dsn, APP_LOGIN, APP_PASSWORD))
    await execute(servers.postgres_dsn, f"DROP DATABASE {name} WITH (FORCE)")


async def execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[Ledger]:
    """The database as a worker sees it."""
    ledger = await Ledger.connect(database.dsn)
    yield ledger
    await ledger.close()


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """The database as somebody sees it who may do everything."""
    connection = await asyncpg.connect(database.owner_dsn)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
async def shared_ledger(
    servers: ServerAddresses, template: str
) -> AsyncIterator[tuple[Ledger, asyncpg.Connection]]:
    """One database for a file whose tests keep to sessions of their own; four connections are made at once."""
    async with cloned(servers, template) as database:
        ledger = await Ledger.connect(database.dsn, min_size=4)
        owner = await asyncpg.connect(database.owner_dsn)
        yield ledger, owner
        await owner.close()
        await ledger.close()


@pytest.fixture(scope="session")
async def temporal(servers: ServerAddresses) -> Client:
    return await Client.connect(servers.temporal_address, data_converter=data_converter)


def with_database(dsn: str, name: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


def with_login(dsn: str, user: str, password: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}"))


@dataclass(frozen=True, kw_only=True)
class House:
    """A worker as production builds it, on a task queue, a database and a scripted model of its own."""

    holdfast: Holdfast
    temporal: Client
    model: ScriptedModel
    database: Database
    settings: Settings
    started: list[str] = field(default_factory=list)

    async def start(self, message: str, **options: Any) -> str:
        """Start a session for ann and return its id."""
        principal = Principal(requested_by="ann")
        session_id = (await self.holdfast.start(message, principal=principal, **options)).session_id
        self.started.append(session_id)
        return session_id

    async def record(self, name: str) -> None:
        """Keep the history of the session for `make test` to replay for ever."""
        HISTORIES.mkdir(exist_ok=True)
        (session_id,) = self.started
        history = await self.handle(session_id).fetch_history()
        text = json.dumps(history.to_json_dict(), indent=1).replace(socket.gethostname(), "host")
        (HISTORIES / f"{name}.json").write_text(text + "\n")

    def handle(self, session_id: str) -> WorkflowHandle[Any, Any]:
        return self.temporal.get_workflow_handle(session_id)

    async def until(self, session_id: str, status: str) -> None:
        """Wait for the session's status in the ledger."""
        await self._until_row("SELECT 1 FROM holdfast.session WHERE id = $1 AND status = $2", session_id, status)

    async def until_asked(self, session_id: str) -> asyncpg.Record:
        """Wait for a pending approval and return its row."""
        return await self._until_row(
            """SELECT a.* FROM holdfast.approval a JOIN holdfast.session s USING (session_key)
            WHERE s.id = $1 AND a.state = 'pending'""",
            session_id,
        )

    async def until_claimed(self, tool: str) -> asyncpg.Record:
        """Wait until an attempt at the tool runs."""
        return await self._until_row("SELECT * FROM holdfast.effect WHERE tool = $1 AND state = 'CLAIMED'", tool)

    async def rows(self, query: str, *args: Any) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.database.owner_dsn)
        try:
            return await connection.fetch(query, *args)
        finally:
            await connection.close()

    async def entries(self, session_id: str) -> list[asyncpg.Record]:
        return await self.rows(
            """SELECT e.* FROM holdfast.entry e JOIN holdfast.session s USING (session_key)
            WHERE s.id = $1 ORDER BY seq""",
            session_id,
        )

    async def history(self, session_id: str) -> list[HistoryEvent]:
        return [event async for event in self.handle(session_id).fetch_history_events()]

    async def events_when_it_waits(self, session_id: str) -> int:
        """Events of its history, once that ends with the timer of its wait: then nothing moves by itself."""

        async def waits() -> list[HistoryEvent]:
            events = await self.history(session_id)
            return events if events[-1].event_type == EventType.EVENT_TYPE_TIMER_STARTED else []

        return len(await until(waits, "the session to wait", within=SETTLE_WITHIN_S))

    async def _until_row(self, query: str, *args: str) -> asyncpg.Record:
        connection = await asyncpg.connect(self.database.owner_dsn)
        try:
            return await until(
                lambda: connection.fetchrow(query, *args), f"a row of {query}, {args}", within=SETTLE_WITHIN_S
            )
        finally:
            await connection.close()


OpenHouse = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture
def open_house(
    servers: ServerAddresses, database: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> OpenHouse:
    """`async with open_house(SCENARIOS, config=TOML) as house`: everything a session needs, for one block."""
    return house_opener(servers, database, tmp_path, request)


def house_opener(
    servers: ServerAddresses, database: Database, home: Path, request: pytest.FixtureRequest
) -> OpenHouse:
    """The same for a fixture of another scope, which brings a database and a directory of its own."""

    @asynccontextmanager
    async def opened(
        *scenarios: str,
        config: str | None = None,
        worker: WorkerSettings | None = None,
        work: bool = True,
        temporal_address: str | None = None,
        keys: KeySettings | None = None,
    ) -> AsyncIterator[House]:
        path = home / "holdfast.toml"
        if config is not None:
            path.write_text(config)
        async with running(*scenarios) as model:
            settings = Settings(
                home=home,
                config=path if config is not None else None,
                dsn=database.dsn,
                task_queue=f"queue-{secrets.token_hex(4)}",
                keys=keys or KeySettings(),
                temporal=TemporalSettings(
                    address=temporal_address or servers.temporal_address, namespace=servers.namespace, embedded=True
                ),
                model=ModelSettings(provider="gateway", base_url=model.url, scripted=True),
            )
            plugin = HoldfastPlugin(settings, worker=worker, sweep_every=None)
            temporal = await connect_temporal(settings.temporal, plugins=[plugin])
            async with await Holdfast.connect(settings) as holdfast:
                house = House(
                    holdfast=holdfast, temporal=temporal, model=model, database=database, settings=settings
                )
                if not work:
                    yield house
                    return
                chosen = worker or QUICK
                if request.config.getoption("--uncached"):
                    chosen = chosen.model_copy(update={"cached_sessions": 0})
                async with build_worker(temporal, task_queue=settings.task_queue, settings=chosen):
                    yield house
                    if request.config.getoption("--record") and request.node.get_closest_marker("golden"):
                        await house.record(request.node.name)

    return opened


QUICK = WorkerSettings(grace=timedelta(seconds=2))
