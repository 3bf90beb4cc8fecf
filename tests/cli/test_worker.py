"""`worker start` where it cannot work: it says why and leaves, for its supervisor to start it again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import duration_pb2
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client

from holdfast.errors import HoldfastError
from holdfast_cli.exits import Exit
from holdfast_cli.main import expected_exit
from holdfast_workers.settings import TemporalSettings
from holdfast_workers.worker import run
from tests.cli.conftest import Cli
from tests.conftest import House

NOWHERE = "127.0.0.1:1"


async def refusal(house: House, **changed: Any) -> tuple[str, int | None]:
    """What a worker with changed settings says as it leaves, and the exit code that means."""
    with pytest.raises(HoldfastError) as refused:
        await asyncio.wait_for(run(house.settings.model_copy(update=changed)), 20)
    return str(refused.value), expected_exit(refused.value)


async def make_namespace(temporal: Client, name: str) -> None:
    kept = duration_pb2.Duration(seconds=24 * 3600)
    request = RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=kept)
    await temporal.workflow_service.register_namespace(request)


async def test_a_worker_whose_servers_are_away_leaves_with_4_and_no_password(
    idle_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, code = await refusal(idle_cli.house, temporal=TemporalSettings(address=NOWHERE, environ={}))
    assert (code, NOWHERE in said) == (Exit.UNREACHABLE, True)

    monkeypatch.setenv("HOLDFAST_DSN", f"postgresql://me:hunter2@{NOWHERE}/holdfast")
    async with idle_cli.process("worker", "start") as worker:
        _, err = await asyncio.wait_for(worker.communicate(), 20)
    assert worker.returncode == Exit.UNREACHABLE
    assert f"Postgres at {NOWHERE}/holdfast cannot be reached" in err.decode()
    assert "hunter2" not in err.decode()
    assert "Traceback" not in err.decode()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("DELETE FROM holdfast.schema_version WHERE version > 1", "holdfast db migrate"),
        ("INSERT INTO holdfast.schema_version VALUES (99, 'later', 'x', 99)", "upgrade Holdfast"),
        ("DROP SCHEMA holdfast CASCADE", "holdfast db"),
    ],
)
async def test_a_worker_refuses_a_schema_of_another_version(idle_cli: Cli, change: str, says: str) -> None:
    await idle_cli.house.rows(change)
    said, code = await refusal(idle_cli.house)
    assert (code, says in said) == (Exit.FAILED, True), said


async def test_a_worker_refuses_the_ledger_of_another_namespace(cli: Cli) -> None:
    session = await cli.waiting_session()
    await make_namespace(cli.house.temporal, "other")
    other = cli.house.settings.temporal.model_copy(update={"namespace": "other"})
    said, code = await refusal(cli.house, temporal=other)
    assert code == Exit.FAILED
    assert "belongs to Temporal cluster" in said
    assert "namespace `default`" in said
    await cli("approve", session)
    await cli.house.until(session, "idle")


async def test_a_worker_whose_namespace_does_not_exist_says_so(idle_cli: Cli) -> None:
    missing = idle_cli.house.settings.temporal.model_copy(update={"namespace": "nowhere"})
    said, code = await refusal(idle_cli.house, temporal=missing)
    assert (code, "no namespace `nowhere`" in said) == (Exit.FAILED, True), said
    # The ledger was not bound to it: the right worker can still come.
    await idle_cli.house.holdfast.ledger.check(cluster_id="c", namespace="default")


async def test_a_command_in_a_namespace_that_does_not_exist_says_so(idle_cli: Cli) -> None:
    done = await idle_cli("start", "hello", "--id", "no-namespace", "--namespace", "nowhere")
    assert done.code == Exit.FAILED
    assert "no namespace `nowhere`" in done.err
    assert (await idle_cli("start", "hello", "--id", "no-namespace")).code == Exit.DONE  # nothing was used up


async def test_a_worker_refuses_a_lease_shorter_than_three_renewals_at_its_start(
    idle_cli: Cli, tmp_path: Path
) -> None:
    short = tmp_path / "short.toml"
    short.write_text('[effects]\nlease = "10s"\nrenewal = "4s"\n')

    said, code = await refusal(idle_cli.house, config=short)

    assert "a lease of 10 s is shorter than three renewals of 4 s" in said
    assert str(short) in said
    assert code not in (Exit.DONE, Exit.UNREACHABLE)
