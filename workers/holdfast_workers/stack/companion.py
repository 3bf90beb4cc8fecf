"""Processes beside a running stack, kept by a process of their own: what not every stack is to carry.

A companion lives in a home below the stack's, is found and stopped as a stack is, and never outlives the
supervisor it was started beside.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast_workers.stack.errors import StackError
from holdfast_workers.stack.home import Home
from holdfast_workers.stack.keeper import Keeper
from holdfast_workers.stack.leftovers import stop_leftovers
from holdfast_workers.stack.plan import Service, Workers
from holdfast_workers.stack.ports import PortChoice
from holdfast_workers.stack.processes import ProcessIdentity, ProcessSpec, together
from holdfast_workers.stack.runtime import Runtime, State, hold_lock, last_record, read_runtime
from holdfast_workers.stack.supervisor import stop_signals

LOOK_FOR_STACK_EVERY_S = 0.5

logger = logging.getLogger("holdfast.workers.stack")


@dataclass(frozen=True, kw_only=True)
class CompanionPlan:
    """What to keep beside the stack of home `stack`. `workers` is called with its addresses and the services'."""

    stack: Path
    name: str
    services: Sequence[Service]
    workers: Workers


class Companion:
    """Runs one `CompanionPlan` in this process, once."""

    def __init__(self, plan: CompanionPlan) -> None:
        self._plan = plan
        self._stack = plan.stack.resolve()
        self._home = Home(self._stack).companion(plan.name)
        self._services: list[Keeper] = []
        self._workers: list[Keeper] = []
        self._stop_asked = asyncio.Event()
        self._runtime: Runtime | None = None
        self._choice = PortChoice()

    async def run(self) -> None:
        """Run until SIGINT, SIGTERM, SIGHUP or the end of the stack, then stop what was started.

        Raises `AlreadyRunning` if it runs already, and `StackError` if a part does not start.
        """
        self._home.prepare()
        with hold_lock(self._home), stop_signals(self._stop_asked.set):
            await asyncio.to_thread(stop_leftovers, self._home)
            serving = asyncio.create_task(self._serve())
            stopping = asyncio.create_task(self._stop_asked.wait())
            try:
                await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                serving.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await serving
            finally:
                await self._bring_down()
                self._choice.close()

    async def _serve(self) -> None:
        stack = read_runtime(self._stack)
        if stack is None:
            raise StackError(f"No stack runs in `{self._stack}`; `holdfast up` starts it.")
        self._runtime = self._beside(stack)
        self._enter("starting")
        ports = self._runtime.ports.services
        await together(*(self._start(self._services, one.spec(ports[one.name])) for one in self._plan.services))
        workers = self._plan.workers(self._runtime.addresses)
        await together(*(self._start(self._workers, spec) for spec in workers))
        self._enter("ready")
        while True:
            now = read_runtime(self._stack)
            if now is None or now.supervisor != stack.supervisor:
                logger.warning("The stack of `%s` stopped: stopping what ran beside it", self._stack)
                return
            await asyncio.sleep(LOOK_FOR_STACK_EVERY_S)

    def _beside(self, stack: Runtime) -> Runtime:
        """The stack's record with our processes for its own, and our services among its services."""
        former = last_record(self._home)
        chosen = {
            one.name: self._choice.first_free(
                former.ports.services.get(one.name) if former else None, one.preferred_port
            )
            for one in self._plan.services
        }
        urls = {one.name: one.url(chosen[one.name]) for one in self._plan.services}
        return Runtime(
            state="starting",
            supervisor=ProcessIdentity.of_this_process(self._plan.name),
            ports=stack.ports.model_copy(update={"services": chosen}),
            addresses=stack.addresses.model_copy(update={"services": {**stack.addresses.services, **urls}}),
        )

    async def _start(self, kept: list[Keeper], spec: ProcessSpec) -> None:
        keeper = Keeper(spec, self._home.log(spec.name), self._write)
        kept.append(keeper)
        await keeper.start()

    async def _bring_down(self) -> None:
        if self._runtime is None:
            return
        self._enter("stopping")
        for kept in (self._workers, self._services):
            await together(*(keeper.stop() for keeper in kept))
        self._enter("stopped")

    def _enter(self, state: State) -> None:
        assert self._runtime is not None  # set before anything is started
        self._runtime = self._runtime.model_copy(update={"state": state})
        self._write()

    def _write(self) -> None:
        if self._runtime is None:
            return
        identities = tuple(one.identity for one in (*self._services, *self._workers) if one.identity)
        self._runtime = self._runtime.model_copy(update={"processes": identities})
        try:
            self._runtime.write(self._home)
        except OSError as error:  # such as a full disk, or a home that was removed
            logger.error("Cannot write `%s`: %s", self._home.runtime, error)
