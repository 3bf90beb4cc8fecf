"""The supervisor behind `holdfast up`: brings one stack up, keeps it up, takes it down.

It owns its home for as long as it lives, by a lock. Databases start before what uses them and stop after
it. Whatever ends the supervisor, the runtime file names what it had started, for the next one to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from holdfast_workers.stack import ports
from holdfast_workers.stack.home import Home, Passwords
from holdfast_workers.stack.keeper import Keeper
from holdfast_workers.stack.leftovers import stop_leftovers
from holdfast_workers.stack.logins import APP, AUDITOR, ensure_logins
from holdfast_workers.stack.plan import StackPlan
from holdfast_workers.stack.postgres import Postgres, remove_stale_lock
from holdfast_workers.stack.processes import ProcessIdentity, ProcessSpec, together
from holdfast_workers.stack.runtime import Addresses, Ports, Runtime, State, hold_lock, last_record
from holdfast_workers.stack.temporal_server import NAMESPACE, TemporalServer, packaged_binary

LOOK_FOR_HOME_EVERY_S = 1.0

logger = logging.getLogger("holdfast.workers.stack")


class Supervisor:
    """Runs the stack of one `StackPlan` in this process, once."""

    def __init__(self, plan: StackPlan) -> None:
        self._plan = plan
        self._home = Home(plan.home.resolve())
        self._servers: list[Keeper] = []
        self._services: list[Keeper] = []
        self._workers: list[Keeper] = []
        self._stop_asked = asyncio.Event()
        self._runtime: Runtime | None = None
        self._choice = ports.PortChoice()

    async def run(self, on_ready: Callable[[Runtime], None] = lambda runtime: None) -> None:
        """Run until SIGINT, SIGTERM, SIGHUP or `ask_to_stop`, then stop everything.

        `on_ready` is called once, when all parts answer. Raises `AlreadyRunning` at once if another
        supervisor has this home, and `StackError` if a part does not start, with nothing left running.
        """
        self._home.prepare()
        with hold_lock(self._home), stop_signals(self.ask_to_stop):
            await asyncio.to_thread(stop_leftovers, self._home)
            try:
                if await self._unless_stopped(self._bring_up()):
                    on_ready(self._enter("ready"))
                    await self._until_stopped()
            finally:
                await self._bring_down()
                self._choice.close()

    def ask_to_stop(self) -> None:
        """Let `run` end, from any signal handler or task of its loop."""
        self._stop_asked.set()

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work` to its end; False if it was cut short because someone asked to stop."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._stop_asked.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            task.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)
        if task.cancelled():
            return False
        task.result()
        return True

    async def _until_stopped(self) -> None:
        """Wait until someone asks to stop, or removes the home, where nobody could ask any more."""
        while not self._stop_asked.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop_asked.wait(), LOOK_FOR_HOME_EVERY_S)
            if not self._home.lock.exists():
                logger.error("`%s` was removed: stopping what ran there", self._home.path)
                return

    async def _bring_up(self) -> None:
        passwords = Passwords.of(self._home)
        chosen = self._choose_ports()
        temporal = TemporalServer(
            binary=self._plan.temporal_binary or packaged_binary(),
            port=chosen.temporal,
            http_port=chosen.temporal_http,
            ui_port=chosen.temporal_ui,
            database=self._home.temporal_database,
        )
        postgres = Postgres(data=self._home.postgres, port=chosen.postgres, password=passwords.superuser)
        addresses = self._addresses(temporal, postgres, passwords, chosen)
        self._runtime = Runtime(
            state="starting",
            supervisor=ProcessIdentity.of_this_process("supervisor"),
            ports=chosen,
            addresses=addresses,
        )
        self._write()
        await together(
            self._start_temporal(temporal),
            self._start_postgres(postgres),
            *(self._start(self._services, one.spec(chosen.services[one.name])) for one in self._plan.services),
        )
        await self._plan.migrate(addresses)
        await ensure_logins(postgres, passwords)
        await together(*(self._start(self._workers, spec) for spec in self._plan.workers(addresses)))

    async def _start_temporal(self, temporal: TemporalServer) -> None:
        await self._start(self._servers, temporal.spec())
        await temporal.set_retention()

    async def _start_postgres(self, postgres: Postgres) -> None:
        await postgres.initialise()
        remove_stale_lock(postgres.data)
        await self._start(self._servers, postgres.spec())
        await postgres.create_database()

    async def _start(self, kept: list[Keeper], spec: ProcessSpec) -> None:
        keeper = Keeper(spec, self._home.log(spec.name), self._write)
        kept.append(keeper)
        await keeper.start()

    async def _bring_down(self) -> None:
        """Workers first, while all they need still answers; the databases last."""
        if self._runtime is not None:
            self._enter("stopping")
        for kept in (self._workers, self._services, self._servers):
            await together(*(keeper.stop() for keeper in kept))
        if self._runtime is not None:
            self._enter("stopped")

    def _choose_ports(self) -> Ports:
        former = last_record(self._home)
        return choose_ports(self._plan, former.ports if former else None, self._choice)

    def _addresses(
        self, temporal: TemporalServer, postgres: Postgres, passwords: Passwords, chosen: Ports
    ) -> Addresses:
        return Addresses(
            temporal=temporal.address,
            namespace=NAMESPACE,
            temporal_http=temporal.http_url,
            ui=f"http://{ports.LOOPBACK}:{chosen.temporal_ui}",
            migrate_dsn=postgres.dsn(),
            app_dsn=postgres.dsn(user=APP, password=passwords.app),
            auditor_dsn=postgres.dsn(user=AUDITOR, password=passwords.auditor),
            services={one.name: one.url(chosen.services[one.name]) for one in self._plan.services},
        )

    def _enter(self, state: State) -> Runtime:
        assert self._runtime is not None  # set before anything is started
        self._runtime = self._runtime.model_copy(update={"state": state})
        self._write()
        return self._runtime

    def _write(self) -> None:
        """Write the runtime file anew, with the processes as they are now."""
        if self._runtime is None:
            return
        kept = (*self._servers, *self._services, *self._workers)
        identities = tuple(keeper.identity for keeper in kept if keeper.identity)
        self._runtime = self._runtime.model_copy(update={"processes": identities})
        try:
            self._runtime.write(self._home)
        except OSError as error:  # such as a full disk, which must not end the watch over the processes
            logger.error("Cannot write `%s`: %s", self._home.runtime, error)


def choose_ports(plan: StackPlan, former: Ports | None, choice: ports.PortChoice) -> Ports:
    """Those of the last run where free, so that clients need not notice a restart; else the usual, else any.

    The usual ones lie below the range from which kernels take the ports of outgoing connections.

    Raises `StackError` if the port asked for is taken.
    """
    if plan.temporal_port is not None:
        temporal = choice.exactly(plan.temporal_port)
    else:
        temporal = choice.first_free(former.temporal if former else None, 7233)
    return Ports(
        temporal=temporal,
        temporal_ui=choice.first_free(former.temporal_ui if former else None, temporal + 1000),
        temporal_http=choice.first_free(former.temporal_http if former else None),
        postgres=choice.first_free(former.postgres if former else None, 15432),
        services={
            one.name: choice.first_free(
                former.services.get(one.name) if former else None,
                one.preferred_port,
            )
            for one in plan.services
        },
    )


@contextmanager
def stop_signals(handler: Callable[[], None]) -> Iterator[None]:
    """Call `handler` on each signal that asks a process to stop, for the length of the block."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
