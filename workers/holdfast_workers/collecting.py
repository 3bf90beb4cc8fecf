"""Garbage collection in a worker process: what was loaded at its start is left out of it.

A full collection looks at every object, and all sessions stand still meanwhile: for 0.15 s with all that a worker
has imported. Requests of long conversations are so many objects that one comes every few turns.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.plugin import SimplePlugin


def start_left_out() -> SimplePlugin:
    """For a process that is only a worker; last of its client's plugins, so that the others have loaded theirs."""
    return SimplePlugin("holdfast-start-left-out", run_context=_left_out)


@asynccontextmanager
async def _left_out() -> AsyncIterator[None]:
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
