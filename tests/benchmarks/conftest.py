"""One worker as a process beside the suite's servers, which a benchmark may lose and start again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.one_worker import OneWorker
from benchmarks.place import model_service
from holdfast_workers.stack.ports import free_port
from holdfast_workers.stack.processes import ChildProcess
from holdfast_workers.stack.runtime import Addresses
from holdfast_workers.stack.servers import ServerAddresses
from tests.conftest import Database

OneWorkerOf = Callable[..., AbstractAsyncContextManager[OneWorker]]


@pytest.fixture
def one_worker_of(servers: ServerAddresses, database: Database, tmp_path: Path) -> OneWorkerOf:
    """`async with one_worker_of(CONFIG) as worker`; `temporal` is another server's address."""

    @asynccontextmanager
    async def opened(config: str, *, temporal: str = servers.temporal_address) -> AsyncIterator[OneWorker]:
        model, port = model_service(), free_port()
        process = await ChildProcess.spawn(model.spec(port), tmp_path / "logs" / "model.log")
        try:
            await process.until_ready()
            addresses = Addresses(
                temporal=temporal,
                namespace=servers.namespace,
                temporal_http=servers.temporal_http_url,
                ui="",
                migrate_dsn=database.owner_dsn,
                app_dsn=database.dsn,
                auditor_dsn=database.dsn,
                services={"model": model.url(port)},
            )
            async with OneWorker(tmp_path, addresses, config).serving() as worker:
                yield worker
        finally:
            await process.stop()

    return opened
