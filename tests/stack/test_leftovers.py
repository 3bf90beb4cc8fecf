"""What may be stopped as ours, and what must be left alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from holdfast_workers.stack.home import Home
from holdfast_workers.stack.leftovers import stop_running
from holdfast_workers.stack.processes import ProcessIdentity
from holdfast_workers.stack.runtime import Addresses, Ports, Runtime
from holdfast_workers.stack.status import status


@pytest.fixture
def orphan() -> Iterator[subprocess.Popen[bytes]]:
    """A process that no supervisor watches."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(10_000)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def identity(pid: int, *, create_time: float | None = None) -> ProcessIdentity:
    """The recorded identity of a live process, unless it is made to start at another time."""
    started = psutil.Process(pid).create_time() if create_time is None else create_time
    return ProcessIdentity(name="worker-1", pid=pid, create_time=started, program=sys.executable)


def record(home: Home, *processes: ProcessIdentity) -> None:
    """The runtime file of a supervisor that was killed."""
    home.prepare()
    home.lock.touch(mode=0o600)
    Runtime(
        state="ready",
        supervisor=ProcessIdentity(name="supervisor", pid=2**22 + 1, create_time=1.0, program="gone"),
        ports=Ports(temporal=1, temporal_http=2, temporal_ui=3, postgres=4),
        addresses=Addresses(
            temporal="", namespace="", temporal_http="", ui="", migrate_dsn="", app_dsn="", auditor_dsn=""
        ),
        processes=processes,
    ).write(home)


def test_down_stops_the_processes_of_a_supervisor_that_is_gone(
    tmp_path: Path, orphan: subprocess.Popen[bytes]
) -> None:
    record(Home(tmp_path), identity(orphan.pid))
    assert status(tmp_path).state == "lost"

    stopped = stop_running(tmp_path)

    assert (stopped.was_running, stopped.leftovers) == (False, ("worker-1",))
    assert orphan.wait(timeout=5) < 0
    assert status(tmp_path).state == "stopped"


def test_a_process_that_was_given_a_recorded_pid_later_is_left_alone(
    tmp_path: Path, orphan: subprocess.Popen[bytes]
) -> None:
    record(Home(tmp_path), identity(orphan.pid, create_time=1_000_000.0))
    assert stop_running(tmp_path).leftovers == ()
    assert orphan.poll() is None


def test_down_without_a_home_does_nothing(tmp_path: Path) -> None:
    home = tmp_path / "never made"
    assert not stop_running(home).was_running
    assert not home.exists()
