"""The two servers of a test suite: real, quick, gone afterwards."""

from pathlib import Path

import asyncpg
import psutil
from temporalio.client import Client

from holdfast_workers.stack.servers import embedded_servers


async def test_both_servers_answer_from_a_long_path_with_a_space_and_leave_nothing(tmp_path: Path) -> None:
    closed = tmp_path / "a home"
    closed.mkdir(mode=0o700)
    home = closed / ("long" * 30)
    before = {child.pid for child in psutil.Process().children(recursive=True)}

    async with embedded_servers(home) as servers:
        client = await Client.connect(servers.temporal_address)
        connection = await asyncpg.connect(servers.postgres_dsn)
        assert await connection.fetchval("SHOW server_version_num") >= "180000"
        await connection.close()
        assert await client.service_client.check_health()
        postgres = next(one for one in psutil.Process().children() if "postgres" in one.name())
        # Also where this test runs as root, in a directory that only root may enter.
        assert postgres.uids().effective != 0
    assert closed.stat().st_mode & 0o777 == 0o700

    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
