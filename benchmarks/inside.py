"""Workers inside the benchmark's own process, where what they do can be counted and timed.

They are built as those of the worker processes are, and on task queues of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.bare_worker import bare_worker
from benchmarks.contenders import Bare, Own
from benchmarks.place import Place
from holdfast_workers.client import Holdfast
from holdfast_workers.collecting import start_left_out
from holdfast_workers.plugin import HoldfastPlugin
from holdfast_workers.temporal import connect_temporal
from holdfast_workers.worker import build_worker

QUEUE = "bench-inside"
BARE_QUEUE = "bench-inside-bare"


@asynccontextmanager
async def own_inside(place: Place, client: Holdfast) -> AsyncIterator[Own]:
    """Holdfast. `client` is only asked to start sessions: the worker's connections are its own."""
    settings = place.settings(QUEUE)
    plugin = HoldfastPlugin(settings, sweep_every=None)
    connection = await connect_temporal(settings.temporal, plugins=[plugin, start_left_out()])
    async with build_worker(connection, task_queue=QUEUE):
        yield Own(Holdfast(client.temporal, client.ledger, task_queue=QUEUE))


@asynccontextmanager
async def bare_inside(place: Place, client: Holdfast) -> AsyncIterator[Bare]:
    settings = place.settings(BARE_QUEUE)
    async with bare_worker(settings.temporal, model=place.addresses.model, task_queue=BARE_QUEUE) as worker, worker:
        yield Bare(client.temporal, task_queue=BARE_QUEUE)
