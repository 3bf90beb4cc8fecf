"""`up --detach`: returns when the stack is ready, or says why it is not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from holdfast_workers.stack.detached import start_detached
from holdfast_workers.stack.errors import StartFailed

from .conftest import STACK, StartStack


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
