"""The story is told once; whoever changes it gets a copy of the database, and who only reads shares one."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from holdfast_workers.stack.servers import ServerAddresses
from tests.conftest import Database, cloned
from tests.ledger.checkpoints.story import tell
from tests.ledger.conftest import Conversation, connected


@pytest.fixture(scope="session")
async def story(servers: ServerAddresses, template: str) -> AsyncIterator[tuple[str, Conversation]]:
    """The name of a database in which it happened, and where its session stands; nobody is connected."""
    async with cloned(servers, template) as database:
        async with connected(database) as conversation:
            await conversation.open()
            await tell(conversation)
        yield urlsplit(database.dsn).path[1:], conversation


@pytest.fixture
async def database(servers: ServerAddresses, story: tuple[str, Conversation]) -> AsyncIterator[Database]:
    """A copy of the database in which it happened."""
    async with cloned(servers, story[0]) as database:
        yield database


@pytest.fixture
async def told(database: Database, story: tuple[str, Conversation]) -> AsyncIterator[Conversation]:
    """The story in a database of this test's own."""
    async with connected(database, story[1]) as conversation:
        yield conversation


@pytest.fixture(scope="session")
async def untouched(servers: ServerAddresses, story: tuple[str, Conversation]) -> AsyncIterator[Conversation]:
    """The story as it happened, for whoever changes nothing."""
    async with cloned(servers, story[0]) as database, connected(database, story[1]) as conversation:
        yield conversation


@pytest.fixture
async def auditor(owner: asyncpg.Connection) -> AsyncIterator[str]:
    """A login that may read what auditors may; its password is `x`."""
    login = f"auditor_{secrets.token_hex(4)}"
    await owner.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'x' IN ROLE holdfast_auditor")
    yield login
    await owner.execute(f"DROP ROLE {login}")
