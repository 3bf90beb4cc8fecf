"""Both servers for the length of a block: what a test suite, a benchmark or a notebook needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from holdfast_workers.stack import ports
from holdfast_workers.stack.home import new_password
from holdfast_workers.stack.postgres import Postgres
from holdfast_workers.stack.processes import ChildProcess, together
from holdfast_workers.stack.temporal_server import NAMESPACE, TemporalServer, packaged_binary

# Nobody reads this data after a crash, so it need not survive one.
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}


@dataclass(frozen=True, kw_only=True)
class ServerAddresses:
    """Where the two servers are. The DSN is the superuser's, in an empty database."""

    temporal_address: str
    namespace: str
    temporal_http_url: str
    postgres_dsn: str


@asynccontextmanager
async def embedded_servers(
    home: Path,
    *,
    temporal_args: Sequence[str] = (),
    postgres_settings: Mapping[str, str] = THROWAWAY,
) -> AsyncIterator[ServerAddresses]:
    """Run PostgreSQL in an empty `home` and Temporal in memory, without UI; stop them after the block.

    Raises `StackError` if one of them cannot start.
    """
    temporal = TemporalServer(
        binary=packaged_binary(),
        port=ports.free_port(),
        http_port=ports.free_port(),
        extra_args=temporal_args,
    )
    postgres = Postgres(data=home / "postgres", port=ports.free_port(), password=new_password())

    async def start_postgres() -> None:
        await postgres.initialise()
        server = await ChildProcess.spawn(postgres.spec(postgres_settings), home / "logs" / "postgres.log")
        running.push_async_callback(server.stop)
        await server.until_ready()
        await postgres.create_database()

    async def start_temporal() -> None:
        server = await ChildProcess.spawn(temporal.spec(), home / "logs" / "temporal.log")
        running.push_async_callback(server.stop)
        await server.until_ready()

    async with AsyncExitStack() as running:
        await together(start_postgres(), start_temporal())
        yield ServerAddresses(
            temporal_address=temporal.address,
            namespace=NAMESPACE,
            temporal_http_url=temporal.http_url,
            postgres_dsn=postgres.dsn(),
        )
