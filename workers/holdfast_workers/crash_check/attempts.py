"""`python -m holdfast_workers.crash_check.attempts`: workers that may kill themselves, one for each call.

It takes an `Order` a line on stdin. Each is worked on in a process of its own, through the production activity
until the call is settled, and answered with a line: the `CallOutcome`, or `null` where the process died as it was
ordered to. Processes are forked, so that what they import is imported once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
import traceback
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import TextIO

import httpx2
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from holdfast.contracts import CallOutcome, ExecuteCall
from holdfast.errors import HoldfastError
from holdfast_activities.execute_call import CallExecutions
from holdfast_activities.faults import FaultPoint
from holdfast_activities.tools.book import ToolBook
from holdfast_workers.client import connect_ledger
from holdfast_workers.config_file import load_config
from holdfast_workers.crash_check.orders import EFFECTS, Order
from holdfast_workers.settings import Settings
from holdfast_workers.work import resources_of

USUAL_PAUSE_S = 0.2
"""Where an attempt does not say how long the next one waits."""


class Sent(httpx2.AsyncBaseTransport):
    """Notes each request of the tool, not of its probe, before it leaves: what a dead process sent is known too."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")
        self._shared = httpx2.AsyncHTTPTransport(retries=0)
        self.dispatching = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.dispatching:
            self._file.write(f"{request.method} {request.headers.get('idempotency-key', '-')}\n")
            self._file.flush()
        return await self._shared.handle_async_request(request)

    async def aclose(self) -> None:
        await self._shared.aclose()
        self._file.close()


@dataclasses.dataclass(frozen=True)
class Faults:
    """The process's `FaultPoints`: they tell the probe's requests from the tool's, and one of them is deadly."""

    sent: Sent
    crash_at: FaultPoint | None

    def __call__(self, point: FaultPoint, of: str) -> None:
        if point in (FaultPoint.AFTER_CLAIM, FaultPoint.BEFORE_DISPATCH):
            self.sent.dispatching = point is FaultPoint.BEFORE_DISPATCH
        if point is self.crash_at:
            os.kill(os.getpid(), signal.SIGKILL)


async def execute(settings: Settings, order: Order) -> CallOutcome:
    config = load_config(settings.config)
    directory = settings.config.parent if settings.config else Path.cwd()
    async with AsyncExitStack() as opened:
        ledger = await connect_ledger(settings)
        opened.push_async_callback(ledger.close)
        transport = Sent(order.sent)
        calls = CallExecutions(
            ledger=ledger,
            book=ToolBook(config, directory),
            resources=resources_of(config, directory, ledger, os.environ),
            secrets={name: os.environ[name] for name in config.secrets.allow if name in os.environ},
            worker=f"tool-check-{os.getpid()}",
            observe=lambda report: None,
            effects=EFFECTS,
            faults=Faults(transport, order.crash_at),
            transport=transport,
        )
        opened.push_async_callback(calls.close)
        return await settle(calls, order.request)


async def settle(calls: CallExecutions, request: ExecuteCall) -> CallOutcome:
    """Attempt after attempt, as Temporal would make them, until one returns an outcome."""
    for number in count(1):
        environment = ActivityEnvironment()
        environment.info = dataclasses.replace(environment.info, attempt=number)
        try:
            return await environment.run(calls.execute_call, request)
        except ApplicationError as again:
            pause = again.next_retry_delay
            await asyncio.sleep(USUAL_PAUSE_S if pause is None else pause.total_seconds())
    raise AssertionError("counting has no end")


def work(settings: Settings, line: str, answers: TextIO) -> None:
    """What a forked process does. It never returns: nothing of its parent is its to clean up."""
    code = 1
    try:
        outcome = asyncio.run(execute(settings, Order.model_validate_json(line)))
        print(outcome.model_dump_json(), file=answers, flush=True)
        code = 0
    except HoldfastError as error:
        print(error, file=sys.stderr)
    except Exception:  # whatever else: the one who ordered it reads what happened
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> int:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a tool prints is no answer
    settings = Settings.load(os.environ)
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            work(settings, line, answers)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == -signal.SIGKILL:
            print("null", file=answers, flush=True)
        elif code != 0:
            return abs(code)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HoldfastError as error:
        sys.exit(str(error))
