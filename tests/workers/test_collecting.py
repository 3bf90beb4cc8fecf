"""A worker's garbage collection does not look at what the worker loaded at its start."""

from __future__ import annotations

import asyncio
import gc

from temporalio import workflow
from temporalio.worker import Worker

from holdfast_workers.collecting import start_left_out
from holdfast_workers.settings import TemporalSettings
from holdfast_workers.stack.servers import ServerAddresses
from holdfast_workers.temporal import connect_temporal


@workflow.defn
class Nothing:
    @workflow.run
    async def run(self) -> None:
        return None


async def test_what_is_there_at_the_start_is_left_out_while_the_worker_runs(servers: ServerAddresses) -> None:
    settings = TemporalSettings(address=servers.temporal_address, namespace=servers.namespace)
    client = await connect_temporal(settings, plugins=[start_left_out()])
    before = gc.get_freeze_count()

    async with Worker(client, task_queue="collecting", workflows=[Nothing]):
        async with asyncio.timeout(20):
            await client.execute_workflow(Nothing.run, id="collecting", task_queue="collecting")
        assert gc.get_freeze_count() > before + 10_000

    assert gc.get_freeze_count() <= before
