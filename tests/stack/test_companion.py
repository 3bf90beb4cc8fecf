"""What runs beside a stack: found and stopped with it, and never left behind."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from holdfast_workers.stack.detached import start_detached
from holdfast_workers.stack.errors import StartFailed
from holdfast_workers.stack.home import Home
from holdfast_workers.stack.leftovers import stop_running
from holdfast_workers.stack.processes import ProcessIdentity
from holdfast_workers.stack.runtime import Runtime, last_record, read_runtime
from holdfast_workers.stack.status import status

from .conftest import StartStack, until

COMPANION = Path(__file__).with_name("run_companion.py")


def start_beside(home: Path) -> Runtime:
    return start_detached(beside(home).path, [sys.executable, str(COMPANION), str(home)], name="companion").runtime


def beside(home: Path) -> Home:
    return Home(home.resolve()).companion("small")


def gone(*processes: ProcessIdentity) -> bool:
    return not any(one.process() for one in processes)


def test_what_runs_beside_a_stack_knows_its_addresses_and_stops_with_it(
    home: Path, start_stack: StartStack
) -> None:
    stack = start_stack().ready()
    companion = start_beside(home)
    assert companion.addresses.temporal == stack.addresses.temporal
    assert companion.addresses.services.keys() == {"model", "beside"}
    assert {one.name for one in status(home).processes} >= {"beside", "beside-worker"}

    assert stop_running(home).leftovers == ()
    assert gone(companion.supervisor, *companion.processes, *stack.processes)


def test_what_runs_beside_a_stack_ends_when_the_stack_is_killed(home: Path, start_stack: StartStack) -> None:
    stack = start_stack()
    stack.ready()
    companion = start_beside(home)
    stack.send(signal.SIGKILL)
    until(lambda: gone(companion.supervisor, *companion.processes), "the end of the companion")


def test_a_killed_process_beside_a_stack_runs_again(home: Path, start_stack: StartStack) -> None:
    start_stack().ready()
    worker = next(one for one in start_beside(home).processes if one.name == "beside-worker")
    os.kill(worker.pid, signal.SIGKILL)

    def again() -> bool:
        record = last_record(beside(home))
        return any(one.name == worker.name and one.restarts == 1 for one in record.processes) if record else False

    until(again, "the worker's next life")


def test_nothing_starts_beside_a_stack_that_does_not_run(home: Path) -> None:
    with pytest.raises(StartFailed, match="No stack runs"):
        start_beside(home)
    assert read_runtime(beside(home).path) is None
