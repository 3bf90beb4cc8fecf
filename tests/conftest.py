"""Real servers for the whole suite: one Temporal, one PostgreSQL, a fresh migrated database for each test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from temporalio.client import Client

from holdfast_ledger.migrate import migrate
from holdfast_workers.converter import data_converter
from holdfast_workers.stack.servers import ServerAddresses, embedded_servers

TEMPLATE = "holdfast_template"
APP_LOGIN = "holdfast_test_app"
APP_PASSWORD = secrets.token_hex(8)


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
    """Name of a migrated database to clone."""
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
    name = f"test_{secrets.token_hex(6)}"
    owner = await asyncpg.connect(servers.postgres_dsn)
    try:
        await owner.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        dsn = with_database(servers.postgres_dsn, name)
        yield Database(owner_dsn=dsn, dsn=with_login(dsn, APP_LOGIN, APP_PASSWORD))
        await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await owner.close()


@pytest.fixture(scope="session")
async def temporal(servers: ServerAddresses) -> Client:
    return await Client.connect(servers.temporal_address, data_converter=data_converter)


def with_database(dsn: str, name: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


def with_login(dsn: str, user: str, password: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}"))
