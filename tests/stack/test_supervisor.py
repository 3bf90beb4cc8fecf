"""`up`, `down` and what is left after the worst: with real servers, so these tests are few and slow."""

from __future__ import annotations

import shutil
import signal
import socket
import time
from pathlib import Path

import asyncpg
import psutil
import pytest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client

from holdfast_workers.stack.keeper import LONGEST_DELAY_S
from holdfast_workers.stack.leftovers import stop_running
from holdfast_workers.stack.runtime import Runtime, read_runtime
from holdfast_workers.stack.status import status

from .conftest import StartStack, until

USUAL_PORTS = (7233, 8233, 15432)


def running(runtime: Runtime) -> list[str]:
    """Names of the recorded processes that live."""
    return [one.name for one in runtime.processes if one.process()]


def worker(home: Path) -> psutil.Process | None:
    """The live worker process, if the runtime file names one."""
    runtime = read_runtime(home)
    identity = next((one for one in runtime.processes if one.name == "worker-1"), None) if runtime else None
    return identity.process() if identity else None


def readable_by_others(home: Path) -> list[Path]:
    """Files of `home` that another user could read if the directory let them."""
    files = [path for path in home.rglob("*") if path.is_file()]
    return [path for path in files if path.stat().st_mode & 0o077]


async def namespace_id(address: str) -> str:
    """What tells one Temporal database from another."""
    client = await Client.connect(address)
    request = DescribeNamespaceRequest(namespace=client.namespace)
    return (await client.workflow_service.describe_namespace(request)).namespace_info.id


async def test_up_runs_both_servers_as_designed_and_a_second_up_is_a_no_op(
    home: Path, start_stack: StartStack
) -> None:
    first = start_stack()
    runtime = first.ready()

    code, printed = start_stack().ended()
    assert (code, "already running" in printed) == (0, True)
    assert read_runtime(home) == runtime

    client = await Client.connect(runtime.addresses.temporal)
    namespace = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=runtime.addresses.namespace)
    )
    assert namespace.config.workflow_execution_retention_ttl.ToTimedelta().days == 30
    connection = await asyncpg.connect(runtime.addresses.app_dsn)
    assert await connection.fetchval("SHOW fsync") == "on"
    assert await connection.fetchval("SHOW listen_addresses") == "127.0.0.1"
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(runtime.addresses.app_dsn, password="guessed")
    assert readable_by_others(home) == []

    first.send(signal.SIGINT)
    assert first.ended()[0] == 0
    assert running(runtime) == []
    assert status(home).state == "stopped"


def test_of_two_ups_at_the_same_moment_one_wins(home: Path, start_stack: StartStack) -> None:
    both = [start_stack(), start_stack()]
    runtime = until(lambda: read_runtime(home), "one of them")
    (loser,) = [one for one in both if one.pid != runtime.supervisor.pid]
    assert loser.ended()[0] == 0
    assert [one.name for one in runtime.processes] == running(runtime)


async def test_a_restart_keeps_the_data_and_the_ports(home: Path, start_stack: StartStack) -> None:
    before = start_stack().ready()
    connection = await asyncpg.connect(before.addresses.migrate_dsn)
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    await connection.close()
    namespace = await namespace_id(before.addresses.temporal)
    assert stop_running(home).was_running
    assert read_runtime(home) is None

    after = start_stack().ready()
    assert await namespace_id(after.addresses.temporal) == namespace
    connection = await asyncpg.connect(after.addresses.migrate_dsn)
    assert await connection.fetchval("SELECT answer FROM kept") == 42
    await connection.close()

    for _ in range(4):
        if after.addresses == before.addresses:
            break
        stop_running(home)  # another test's stack took a port in between
        before, after = after, start_stack().ready()
    assert after.addresses == before.addresses


def test_after_a_killed_supervisor_up_recovers_and_down_leaves_nothing(home: Path, start_stack: StartStack) -> None:
    killed = start_stack()
    lost = killed.ready()
    killed.send(signal.SIGKILL)
    killed.ended()

    recovered = start_stack()
    runtime = recovered.ready()
    assert running(lost) == []
    assert len(running(runtime)) == 4

    recovered.send(signal.SIGKILL)
    recovered.ended()
    stop_running(home)
    assert running(runtime) == []
    assert status(home).state == "stopped"


def test_a_stack_whose_home_is_removed_does_not_run_on(home: Path, start_stack: StartStack) -> None:
    stack = start_stack()
    runtime = stack.ready()
    shutil.rmtree(home)
    assert "was removed" in stack.ended()[1]
    assert running(runtime) == []


def test_a_killed_worker_is_replaced_at_once(home: Path, start_stack: StartStack) -> None:
    start_stack().ready()
    first = until(lambda: worker(home), "the worker")

    killed_at = time.monotonic()
    first.kill()
    until(lambda: (now := worker(home)) is not None and now != first, "its replacement")
    assert time.monotonic() - killed_at < LONGEST_DELAY_S / 2  # 0.1 s and a process's start, on a busy machine


def test_taken_ports_are_avoided_unless_asked_for_by_number(home: Path, start_stack: StartStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, printed = start_stack("--port", str(port)).ended()
    assert code == 1
    assert f"Port {port} is taken" in printed

    held = [server for port in USUAL_PORTS if (server := listening(port))]
    try:
        ports = start_stack().ready().ports
        there = {server.getsockname()[1] for server in held}
    finally:
        for server in held:
            server.close()
    assert not {ports.temporal, ports.temporal_ui, ports.postgres} & there


def listening(port: int) -> socket.socket | None:
    """Somebody who has the port; None where another stack of this machine has it."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return None


def test_a_part_that_does_not_start_is_named_with_its_log_and_nothing_stays(
    home: Path, start_stack: StartStack
) -> None:
    code, printed = start_stack("--failing-worker").ended()
    assert code == 1
    assert "`worker-1` ended with code 1" in printed
    assert "no such module" in printed
    assert status(home).state == "stopped"
    assert [one for one in psutil.process_iter(["cwd"]) if str(one.info["cwd"]).startswith(str(home))] == []
