"""The server checks of `holdfast doctor`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.api.operatorservice.v1 import RemoveSearchAttributesRequest
from temporalio.client import Client

from holdfast_workers.stack.checks import check_machine, check_postgres, check_temporal
from holdfast_workers.stack.ports import free_port
from holdfast_workers.stack.servers import ServerAddresses, embedded_servers


@pytest.fixture(scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerAddresses]:
    """Both servers."""
    async with embedded_servers(tmp_path_factory.mktemp("servers")) as addresses:
        yield addresses


def test_a_machine_with_the_local_extra_passes(tmp_path: Path) -> None:
    assert {check.result for check in check_machine(tmp_path / "not yet made")} == {"ok"}


async def test_a_missing_search_attribute_is_a_warning_with_the_command_that_creates_it(
    servers: ServerAddresses,
) -> None:
    client = await Client.connect(servers.temporal_address)
    await client.operator_service.remove_search_attributes(
        RemoveSearchAttributesRequest(search_attributes=["HoldfastTenant"], namespace=client.namespace)
    )

    async def connect() -> Client:
        return client

    checks = {check.name: check for check in await check_temporal(connect)}
    assert checks["temporal"].result == "ok"
    assert checks["search attributes"].result == "warning"
    assert "--name HoldfastTenant --type Keyword" in (checks["search attributes"].fix or "")
    assert "HoldfastAgent" not in (checks["search attributes"].fix or "")
    # A test server keeps the default of one day.
    assert checks["retention"].result == "warning"


async def test_unreachable_servers_are_failed_checks_and_no_password_is_shown(
    servers: ServerAddresses,
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    (temporal,) = await check_temporal(lambda: Client.connect(nowhere))
    postgres = await check_postgres(f"postgresql://app:very-secret@{nowhere}/holdfast")
    assert (temporal.result, postgres.result) == ("failed", "failed")
    assert "very-secret" not in postgres.model_dump_json()
    assert (await check_postgres(servers.postgres_dsn)).result == "ok"
