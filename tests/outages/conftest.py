"""Servers of these tests' own, that can be lost in the middle of a session and come back where they were."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.service import RPCError

from holdfast_workers.stack import ports
from holdfast_workers.stack.home import new_password
from holdfast_workers.stack.postgres import Postgres
from holdfast_workers.stack.processes import ChildProcess, ProcessSpec, together
from holdfast_workers.stack.servers import THROWAWAY, ServerAddresses
from holdfast_workers.stack.temporal_server import NAMESPACE, TemporalServer, packaged_binary
from tests.cli.conftest import Cli, point_at
from tests.conftest import Database, House, OpenHouse, cloned, migrated_template

JOB = """
name: {tool}
description: One call of {tool}.
example: {tool}
match: '^{tool}'
turns:
  - calls: [{{tool: {tool}, input: {{what: parcel}}}}]
  - text: "{tool}: {{{{ outcome.{tool} }}}}"
"""
BOTH = """
name: both
description: A read and a write side by side.
example: both
match: '^both'
turns:
  - calls: [{tool: look, input: {what: parcel}}, {tool: move, input: {what: parcel}}]
  - text: "look: {{ outcome.look }}, move: {{ outcome.move }}"
"""
BESIDE = """
name: beside
description: A read beside a payment that a person is asked about.
example: beside
match: '^beside'
turns:
  - calls: [{tool: look, input: {what: parcel}}, {tool: pay, input: {what: parcel}}]
  - text: "look: {{ outcome.look }}"
"""
JOBS = [*(JOB.format(tool=tool) for tool in ("look", "pay", "move")), BOTH, BESIDE]

CONFIG = """
[agents.default]
tools = ["outage_bench:look", "outage_bench:pay", "outage_bench:move"]

[agents.default.policy]
allow = ["move"]
"""

TOOLS = '''
import asyncio
import os
from pathlib import Path

from holdfast import Never, Operator, tool


async def work(line):
    """Note that it happened; answer once the test lets it."""
    home = Path(os.environ["OUTAGE_BENCH"])
    with (home / "runs.log").open("a") as log:
        log.write(line + "\\n")
    while not (home / "go").exists():
        await asyncio.sleep(0.02)
    (home / "answered").touch()


@tool
async def look(what: str) -> str:
    """Look at something."""
    await work(f"look {what}")
    return f"{what} is fine"


@tool(tier="irreversible", recovery=Operator(), undo=Never("money is gone"))
async def pay(what: str) -> str:
    """Pay for something."""
    await work(f"pay {what}")
    return f"{what} is paid"


@tool(tier="irreversible", recovery=Operator(), undo=Never("it is far away"))
async def move(what: str) -> str:
    """Move something, unasked."""
    await work(f"move {what}")
    return f"{what} is moved"
'''


@dataclass
class Server:
    """One process that is killed and started again, with the same port and the same data."""

    spec: ProcessSpec
    log: Path
    child: ChildProcess | None = None

    async def start(self) -> None:
        self.child = await ChildProcess.spawn(self.spec, self.log)
        await self.child.until_ready()

    async def stop(self) -> None:
        assert self.child is not None
        await self.child.stop()

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """The server is gone for the length of the block."""
        await self.stop()
        try:
            yield
        finally:
            await self.start()


@dataclass(frozen=True, kw_only=True)
class OwnServers:
    addresses: ServerAddresses
    postgres: Server
    temporal: Server


@pytest.fixture(scope="session")
async def own_servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OwnServers]:
    home = tmp_path_factory.mktemp("outages")
    temporal = TemporalServer(
        binary=packaged_binary(),
        port=ports.free_port(),
        http_port=ports.free_port(),
        database=home / "temporal.db",
    )
    postgres = Postgres(data=home / "postgres", port=ports.free_port(), password=new_password())
    await postgres.initialise()
    killed = dataclasses.replace(temporal.spec(), stop_signal=signal.SIGKILL)
    own = OwnServers(
        addresses=ServerAddresses(
            temporal_address=temporal.address,
            namespace=NAMESPACE,
            temporal_http_url=temporal.http_url,
            postgres_dsn=postgres.dsn(),
        ),
        postgres=Server(postgres.spec(THROWAWAY), home / "postgres.log"),
        temporal=Server(killed, home / "temporal.log"),
    )
    await together(own.postgres.start(), own.temporal.start())
    await postgres.create_database()
    yield own
    await together(own.postgres.stop(), own.temporal.stop())


@pytest.fixture(scope="session")
def servers(own_servers: OwnServers) -> ServerAddresses:
    return own_servers.addresses


@pytest.fixture(scope="session")
async def template(servers: ServerAddresses) -> str:
    return await migrated_template(servers)


@pytest.fixture
async def database(servers: ServerAddresses, template: str) -> AsyncIterator[Database]:
    async with cloned(servers, template) as database:
        yield database


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A house on servers that can be lost, the command, and what the tools did."""

    house: House
    cli: Cli
    own: OwnServers
    home: Path

    @property
    def runs(self) -> list[str]:
        log = self.home / "runs.log"
        return log.read_text().splitlines() if log.exists() else []

    async def until_run(self) -> None:
        """Wait until a tool is at work: it took effect and has not answered."""
        await self._until(lambda: bool(self.runs))

    def let_answer(self) -> None:
        """Let the tools answer, those that run and those to come."""
        (self.home / "go").touch()

    async def shows(self, session: str, words: str) -> None:
        """Wait until the session says so in the UI, which is all there is where the ledger does not know it."""
        handle = self.house.handle(session)
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(RPCError):  # no worker answers while it has work of the session
                    shown = await handle.query(
                        "__temporal_workflow_metadata",
                        result_type=WorkflowMetadata,
                        rpc_timeout=timedelta(seconds=2),
                    )
                    if words in shown.current_details:
                        return
                await asyncio.sleep(0.02)

    async def until_answered(self) -> None:
        """Wait until the tool that ran has answered."""
        await self._until((self.home / "answered").exists)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - files tell
                await asyncio.sleep(0.02)


OpenBench = Callable[..., AbstractAsyncContextManager[Bench]]


@pytest.fixture
def open_bench(
    open_house: OpenHouse,
    own_servers: OwnServers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> OpenBench:
    """`async with open_bench() as bench`; `config` is more of `holdfast.toml`; `work` False: no worker."""

    @asynccontextmanager
    async def opened(*, config: str = "", work: bool = True) -> AsyncIterator[Bench]:
        (tmp_path / "outage_bench.py").write_text(TOOLS)
        async with open_house(*JOBS, config=CONFIG + config, work=work) as house:
            point_at(house, tmp_path, monkeypatch)
            monkeypatch.setenv("OUTAGE_BENCH", str(tmp_path))  # the module is imported once for all tests
            yield Bench(house=house, cli=Cli(house, capsys), own=own_servers, home=tmp_path)

    return opened


@pytest.fixture
async def bench(open_bench: OpenBench) -> AsyncIterator[Bench]:
    async with open_bench() as bench:
        yield bench


async def said(follower: asyncio.subprocess.Process, words: str) -> str:
    """Wait for a line of the follower that has these words."""
    assert follower.stderr
    async with asyncio.timeout(20):
        async for line in follower.stderr:
            assert b"Traceback" not in line
            if words in line.decode():
                return line.decode()
    raise AssertionError(f"the follower ended without saying `{words}`")
