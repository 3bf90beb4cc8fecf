"""A worker that stops lets a dispatched write finish, and gives back what it had not dispatched."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Worker

from holdfast import contracts
from holdfast.contracts import LEASE, SETTLE
from holdfast.states import CallStatus
from tests.activities.tools.conftest import Bench, Service
from tests.waiting import until


async def test_a_stopping_worker_finishes_the_write_it_has_sent(
    temporal: Client, bench: Bench, service: Service
) -> None:
    queue = secrets.token_hex(6)
    call = await bench.plan("pay_through_a_cancel", path="ok")
    worker = Worker(
        temporal,
        task_queue=queue,
        activities=[bench.executions.execute_call],
        graceful_shutdown_timeout=timedelta(0),
    )
    running = asyncio.create_task(worker.run())
    handle = await temporal.start_activity(
        contracts.execute_call,
        bench.request(call),
        id=f"call-{queue}",
        task_queue=queue,
        start_to_close_timeout=timedelta(seconds=30),
        heartbeat_timeout=LEASE,
        retry_policy=SETTLE,
    )
    await until(lambda: bool(service.effects), "the effect")

    await worker.shutdown()
    await running

    outcome = await handle.result()
    assert outcome.status is CallStatus.OK
    row = await bench.effect(call)
    assert (row["state"], row["token"], row["result"]) == ("DONE", 1, b"true")
    assert service.effects == {call.effect_id: 1}
