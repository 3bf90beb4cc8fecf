"""Logging in to a PostgreSQL that is still starting: only its own refusal is a verdict."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from holdfast_workers.stack import ports
from holdfast_workers.stack.errors import StackError
from holdfast_workers.stack.postgres import Postgres
from holdfast_workers.stack.servers import ServerAddresses


async def copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
    writer.close()


@asynccontextmanager
async def starting(port: int, *, real: int = 0, breaks: int = 1000, after: int = 1000) -> AsyncIterator[None]:
    """A server that breaks off its first `breaks` connections, once it has read something; then the real one."""
    left = breaks

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        if left > 0:
            left -= 1
            await reader.read(after)
            writer.close()
            return
        behind, before = await asyncio.open_connection(ports.LOOPBACK, real)
        await asyncio.gather(copied(reader, before), copied(behind, writer))

    async with await asyncio.start_server(serve, ports.LOOPBACK, port):
        yield


@pytest.mark.parametrize("after", [0, 1000], ids=["at once", "after the client's first words"])
async def test_a_connection_that_breaks_off_means_not_ready_yet(tmp_path: Path, after: int) -> None:
    postgres = Postgres(data=tmp_path, port=ports.free_port(), password="any")
    async with starting(postgres.port, after=after):
        assert not await postgres.accepts_connections()


async def test_a_login_outlasts_a_start_and_a_wrong_password_does_not(
    tmp_path: Path, servers: ServerAddresses
) -> None:
    real = urlsplit(servers.postgres_dsn)
    password = unquote(real.password or "")
    postgres = Postgres(data=tmp_path, port=ports.free_port(), password=password)
    async with starting(postgres.port, real=real.port or 0, breaks=3):
        connection = await postgres.log_in()
        assert await connection.fetchval("SELECT current_user") == real.username
        await connection.close()
        guessing = Postgres(data=tmp_path, port=postgres.port, password="guessed")
        with pytest.raises(StackError, match="refuses its own superuser"):
            await guessing.accepts_connections()
