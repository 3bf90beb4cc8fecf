"""Keeps one process of the stack running: when it dies it is started again, later each time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from holdfast_workers.stack.errors import StackError
from holdfast_workers.stack.processes import ChildProcess, ProcessIdentity, ProcessSpec

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 10.0
HEALTHY_AFTER_S = 30.0  # one that lived this long starts again without delay

logger = logging.getLogger("holdfast.workers.stack")


class Keeper:
    """One kept process. `changed` is called whenever `identity` became another."""

    def __init__(self, spec: ProcessSpec, log_file: Path, changed: Callable[[], None]) -> None:
        self._spec = spec
        self._log_file = log_file
        self._changed = changed
        self._child: ChildProcess | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._restarts = 0

    @property
    def identity(self) -> ProcessIdentity | None:
        """The process as it runs now, or as it last ran; None before and after."""
        if self._child is None:
            return None
        return self._child.identity.model_copy(update={"restarts": self._restarts})

    async def start(self) -> None:
        """Start it for the first time and keep it from then on. Raises `StackError` if it does not start."""
        child = await self._new_life()
        self._keeping = asyncio.create_task(self._keep(child), name=f"keep {self._spec.name}")

    async def stop(self) -> None:
        """Stop it for good."""
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
        if self._child is not None:
            await self._child.stop()
            self._child = None
        self._changed()

    async def _keep(self, child: ChildProcess) -> None:
        delay = FIRST_DELAY_S
        while True:
            started = time.monotonic()
            code = await child.wait()
            if time.monotonic() - started > HEALTHY_AFTER_S:
                delay = FIRST_DELAY_S
            logger.warning("`%s` (pid %d) ended with code %d", self._spec.name, child.identity.pid, code)
            await child.stop()  # what it left behind in its process group
            child, delay = await self._start_again(delay)

    async def _start_again(self, delay: float) -> tuple[ChildProcess, float]:
        """The next life, and how long to wait before the one after it, in seconds."""
        while True:
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY_S)
            self._restarts += 1
            try:
                child = await self._new_life()
            except (StackError, OSError) as error:
                logger.error("%s Trying again in %.1f s.", error, delay)
                continue
            logger.warning("`%s` runs again as pid %d", self._spec.name, child.identity.pid)
            return child, delay

    async def _new_life(self) -> ChildProcess:
        """Start the process; its identity is known to `changed` before it is ready."""
        self._child = await ChildProcess.spawn(self._spec, self._log_file)
        self._changed()
        await self._child.until_ready()
        return self._child
