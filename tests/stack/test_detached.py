"""`up --detach`: returns when the stack is ready, or says why it is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast_workers.stack.detached import start_detached
from holdfast_workers.stack.errors import StartFailed
from holdfast_workers.stack.home import Home
from holdfast_workers.stack.runtime import is_locked, last_record

from .conftest import STACK, StartStack, until

START = "import sys; from pathlib import Path; from holdfast_workers.stack.detached import start_detached; "


def test_a_detached_stack_is_ready_in_a_session_of_its_own_and_found_by_the_next_call(
    home: Path, start_stack: StartStack
) -> None:
    argv = [sys.executable, str(STACK), str(home)]
    first = start_detached(home, argv)
    assert first.started
    assert os.getsid(first.runtime.supervisor.pid) != os.getsid(0)

    second = start_detached(home, argv)
    assert not second.started
    assert second.runtime == first.runtime


def test_a_detached_start_that_fails_shows_what_the_failing_part_said(home: Path) -> None:
    with pytest.raises(StartFailed, match="no such module"):
        start_detached(home, [sys.executable, str(STACK), str(home), "--failing-worker"])


def test_ctrl_c_during_a_detached_start_leaves_nothing_running(home: Path) -> None:
    code = f"{START} start_detached(Path(sys.argv[1]), [sys.executable, sys.argv[2], sys.argv[1]])"
    starting = subprocess.Popen([sys.executable, "-c", code, str(home), str(STACK)], stderr=subprocess.DEVNULL)
    record = until(lambda: last_record(Home(home.resolve())), "the supervisor's first word")
    starting.send_signal(signal.SIGINT)
    starting.wait()
    assert record.supervisor.process() is None
    assert not is_locked(Home(home.resolve()))
