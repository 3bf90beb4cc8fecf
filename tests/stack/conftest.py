"""A stack small enough to start often: real servers, one worker that only waits, one plain HTTP service."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from holdfast_workers.stack.leftovers import stop_running
from holdfast_workers.stack.runtime import Runtime, read_runtime

STACK = Path(__file__).with_name("run_stack.py")
WITHIN_S = 30.0

T = TypeVar("T")


class StackProcess:
    """A supervisor in a process of its own, as `holdfast up` is."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        self.argv = [sys.executable, str(STACK), str(home), *options]
        self._process = subprocess.Popen(self.argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    @property
    def pid(self) -> int:
        """The supervisor's pid."""
        return self._process.pid

    def ready(self) -> Runtime:
        """Wait until the stack is ready."""
        return until(self._ready_or_dead, f"the stack of {self.home}")

    def _ready_or_dead(self) -> Runtime | None:
        if self._process.poll() is not None:
            raise AssertionError(self.ended()[1])
        return read_runtime(self.home)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor alone."""
        self._process.send_signal(number)

    def ended(self) -> tuple[int, str]:
        """Wait until it ended; its exit code and what it printed."""
        printed, _ = self._process.communicate(timeout=WITHIN_S)
        return self._process.returncode, printed


StartStack = Callable[..., StackProcess]


def until(ask: Callable[[], T | None], what: str) -> T:
    """Wait for the first truthy answer."""
    deadline = time.monotonic() + WITHIN_S
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"waited {WITHIN_S} s for {what}"
        time.sleep(0.02)
    return answer


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose path has a space, means something in a URL, and is too long for a unix socket."""
    return tmp_path / "a home?#%20" / ("long" * 25)


@pytest.fixture
def start_stack(home: Path) -> Iterator[StartStack]:
    """Start a supervisor of `home`; whatever it leaves is stopped after the test."""
    started: list[StackProcess] = []

    def start(*options: str) -> StackProcess:
        started.append(StackProcess(home, *options))
        return started[-1]

    yield start
    stop_running(home)
    for stack in started:
        stack.ended()
