"""`holdfast up --detach`: the supervisor in a session of its own, and the wait until it is ready.

What runs beside a stack is started the same way.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast_workers.stack.errors import StartFailed
from holdfast_workers.stack.home import Home
from holdfast_workers.stack.processes import open_log, tail
from holdfast_workers.stack.runtime import Runtime, is_locked, read_runtime

POLL_EVERY_S = 0.03


@dataclass(frozen=True, kw_only=True)
class Detached:
    """The running stack, and whether this call started it."""

    runtime: Runtime
    started: bool


def start_detached(
    home: Path, argv: Sequence[str], *, name: str = "holdfast up", within_s: float = 60.0
) -> Detached:
    """Run `argv`, a foreground `holdfast up` for `home`, detached from this terminal; return when it is ready.

    A stack that runs or is starting already is waited for instead. Raises `StackError` if it does not come up,
    with what the supervisor printed.
    """
    its = Home(home.resolve())
    its.prepare()
    if runtime := read_runtime(its.path):
        return Detached(runtime=runtime, started=False)
    log_file = its.log("supervisor")
    with open_log(log_file) as log:
        start_of_run = log_file.stat().st_size
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        runtime = until_ready(process, its, name, start_of_run, within_s)
    except KeyboardInterrupt:  # whoever waited for it does not want it any more
        process.terminate()
        process.wait()
        raise
    process.returncode = process.poll() or 0  # it outlives us: Popen must not warn that nobody waits for it
    return Detached(runtime=runtime, started=runtime.supervisor.pid == process.pid)


def until_ready(
    process: subprocess.Popen[bytes], home: Home, name: str, start_of_run: int, within_s: float
) -> Runtime:
    """Wait until a supervisor of `home` is ready, `process` or another one. Raises `StartFailed`."""
    deadline = time.monotonic() + within_s
    while (runtime := read_runtime(home.path)) is None:
        code = process.poll()
        if code is not None and not is_locked(home):
            raise StartFailed(name, f"ended with code {code}", tail(home.log("supervisor"), since=start_of_run))
        if time.monotonic() > deadline:
            process.terminate()
            reason = f"was not ready after {within_s:g} s and is being stopped"
            raise StartFailed(name, reason, tail(home.log("supervisor"), since=start_of_run))
        time.sleep(POLL_EVERY_S)
    return runtime
