"""Stopping a stack from outside: the running one, or what a killed supervisor left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from holdfast_workers.stack.errors import AlreadyRunning, StackError
from holdfast_workers.stack.home import Home
from holdfast_workers.stack.postgres import processes_in
from holdfast_workers.stack.processes import ProcessIdentity, kill_group
from holdfast_workers.stack.runtime import hold_lock, is_locked, last_record

POLL_EVERY_S = 0.02
SUPERVISOR_WITHIN_S = 120.0  # longer than the longest chain of graces it grants
LEFTOVERS_WITHIN_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """What `stop_running` found and stopped."""

    was_running: bool  # a supervisor lived
    leftovers: tuple[str, ...]  # names of processes without a supervisor


def stop_running(home: Path) -> Stopped:
    """Stop the stack of `home`, whatever state it is in, and return when nothing of it or beside it runs.

    Raises `StackError` if the supervisor cannot be stopped.
    """
    its = Home(home.resolve())
    if not its.exists():
        return Stopped(was_running=False, leftovers=())
    beside = [name for one in its.companions() for name in stop_running(one.path).leftovers]
    was_running = stop_supervisor(its)
    try:
        with hold_lock(its):
            leftovers = stop_leftovers(its)
    except AlreadyRunning:
        raise StackError(f"Someone started the stack of `{its.path}` again while it was stopping.") from None
    return Stopped(was_running=was_running, leftovers=(*beside, *leftovers))


def stop_supervisor(home: Home) -> bool:
    """Ask the supervisor to stop and wait for it; kill it when it takes too long. False if none lives."""
    if not is_locked(home):
        return False
    deadline = time.monotonic() + SUPERVISOR_WITHIN_S
    asked: set[int] = set()
    while is_locked(home):
        record = last_record(home)
        supervisor = record.supervisor.process() if record else None
        # One that holds the lock but has not written the file yet is asked as soon as it has.
        if supervisor is not None and supervisor.pid not in asked:
            asked.add(supervisor.pid)
            send(supervisor.pid, signal.SIGTERM)
        if time.monotonic() > deadline:
            if supervisor is None:
                raise StackError(f"Another process holds `{home.lock}` and does not say who it is.")
            send(supervisor.pid, signal.SIGKILL)
            deadline += 1.0
        time.sleep(POLL_EVERY_S)
    return True


def stop_leftovers(home: Home) -> tuple[str, ...]:
    """Stop what an earlier supervisor of `home` started and did not stop; returns the names.

    The caller holds the lock, so no supervisor lives. Only processes of the runtime file are touched, by pid
    and start time and program, and PostgreSQL processes that work in our data directory.
    """
    record = last_record(home)
    known = list(record.processes) if record else []
    living = [identity for identity in known if identity.process()]
    for identity in living:
        send(identity.pid, identity.stop_signal)
    await_end(living, LEFTOVERS_WITHIN_S)
    for identity in living:
        kill_group(identity.pid)
    names = [identity.name for identity in living]
    # A server whose start the runtime file had no time to record, or one outliving its killed postmaster.
    servers = processes_in(home.postgres)
    for server in servers[:1]:
        send(server.pid, signal.SIGINT)
        names.append("postgres")
    await_end_of_postgres(home)
    return tuple(names)


def await_end(identities: list[ProcessIdentity], within_s: float) -> None:
    """Wait until all have ended, killing those that have not in time."""
    deadline = time.monotonic() + within_s
    while living := [identity for identity in identities if identity.process()]:
        if time.monotonic() > deadline:
            for identity in living:
                send(identity.pid, signal.SIGKILL)
        time.sleep(POLL_EVERY_S)


def await_end_of_postgres(home: Home) -> None:
    """Wait until no PostgreSQL process works in the data directory. Raises `StackError`."""
    deadline = time.monotonic() + LEFTOVERS_WITHIN_S
    while servers := processes_in(home.postgres):
        if time.monotonic() > deadline:
            pid = servers[0].pid
            raise StackError(f"PostgreSQL (pid {pid}) does not leave `{home.postgres}`; stop it by hand.")
        time.sleep(POLL_EVERY_S)


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may just have ended."""
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
        os.kill(pid, number)
