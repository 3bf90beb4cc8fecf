"""The lock that tells whether a supervisor lives."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from holdfast_workers.stack.errors import AlreadyRunning
from holdfast_workers.stack.home import Home
from holdfast_workers.stack.runtime import hold_lock, is_locked


def test_whoever_only_asks_is_not_taken_for_a_supervisor_however_slow_it_is(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with hold_lock(home):
        assert is_locked(home)
        with pytest.raises(AlreadyRunning), hold_lock(home):
            pass
    asking = os.open(home.lock, os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    threading.Timer(0.6, os.close, (asking,)).start()
    with hold_lock(home):
        assert is_locked(home)
