"""The check itself: one run that nothing disturbs, one for each fault point, a worker that finds what they left.

Each run has a session, and so an effect, of its own. First all workers die, then the surviving one asks for each
effect: so the leases run out together. The user's count is taken between any two steps that may change it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from holdfast.catalogue import ToolCard
from holdfast.contracts import CallOutcome, ExecuteCall
from holdfast.errors import HoldfastError
from holdfast.states import CallStatus, EffectState, Tier
from holdfast_activities.faults import ATTEMPT_POINTS, FaultPoint
from holdfast_activities.tools.arguments import CheckedCall, Misfit, check_call
from holdfast_activities.tools.book import ToolBook
from holdfast_ledger.store import Ledger
from holdfast_workers.client import connect_ledger
from holdfast_workers.crash_check.counting import Count
from holdfast_workers.crash_check.orders import EFFECTS, Order
from holdfast_workers.crash_check.report import Report, Run, State, judge
from holdfast_workers.crash_check.trial import Trial, end, planned, settle
from holdfast_workers.settings import Settings

MARGIN_S = 30.0
"""A worker's start, and a busy machine, beyond what the tool itself may take."""
LOG = "workers.log"
READS = ("GET", "HEAD", "OPTIONS", "TRACE")
STATES: Mapping[EffectState, State] = {
    EffectState.DONE: "done",
    EffectState.FAILED: "failed",
    EffectState.UNKNOWN: "unknown",
    EffectState.CANCELLED: "cancelled",
}


class CannotCheck(HoldfastError):
    """The tool, its arguments or its service do not let it be checked."""

    code = "internal"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is checked. `arguments`: JSON; in it `{run}` is a number from 1 to 6, `{check}` a random word."""

    card: ToolCard
    book: ToolBook
    arguments: str
    by: str
    count: Count | None = None

    def checked(self, number: int, check: str) -> CheckedCall:
        """The call of one run. Raises `CannotCheck` for arguments that do not fit."""
        text = self.arguments.replace("{run}", str(number)).replace("{check}", check)
        try:
            given = json.loads(text)
        except ValueError as error:
            raise CannotCheck(f"The arguments are no JSON: {error}.") from error
        checked = check_call(self.book.tool(self.card), self.card, given)
        if isinstance(checked, Misfit):
            raise CannotCheck(checked.text)
        return checked


async def check(settings: Settings, subject: Subject, say: Callable[[str], None]) -> Report:
    """Run the whole check.

    Raises:
        CannotCheck: the call fails even where nothing disturbs it, or cannot be made.
        CountFailed: the count cannot be used.
        LedgerUnavailable: there is no Postgres.
    """
    if subject.card.handled == "workflow":
        raise CannotCheck(
            f"`{subject.card.name}` is the session's own waiting: no worker runs it, and none can be lost."
        )
    word = secrets.token_hex(4)
    calls = [subject.checked(number, word) for number in range(1, len(ATTEMPT_POINTS) + 2)]
    async with AsyncExitStack() as opened:
        directory = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-tool-check-")))
        ledger = await connect_ledger(settings)
        opened.push_async_callback(ledger.close)
        workers = await opened.enter_async_context(_workers(settings, subject.card, directory))
        return await _Bench(subject, ledger, workers).runs(calls, say)


class _Workers:
    """The process of `crash_check.attempts`, which forks a worker for each order."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path, within_s: float) -> None:
        self._process = process
        self._directory = directory
        self._within_s = within_s

    async def execute(self, request: ExecuteCall, *, crash_at: FaultPoint | None = None) -> CallOutcome | None:
        """Its outcome; None where its worker died at `crash_at`.

        Raises `CannotCheck` where the worker ended in another way, or did not settle the call in time.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = Order(request=request, sent=self._sent(request), crash_at=crash_at)
        self._process.stdin.write(order.model_dump_json().encode() + b"\n")
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), self._within_s)
        except TimeoutError:
            raise CannotCheck(f"`{request.tool}` was not settled within {self._within_s:.0f} s.") from None
        if not line:
            said = (self._directory / LOG).read_text(errors="replace").strip()[-1000:]
            raise CannotCheck(f"The worker that runs the tool ended: {said or await self._process.wait()}")
        return TypeAdapter(CallOutcome | None).validate_json(line)

    def sent(self, request: ExecuteCall) -> list[tuple[str, str]]:
        """Method and idempotency key of each request so far."""
        path = self._sent(request)
        lines = path.read_text().splitlines() if path.exists() else []
        return [(method, key) for method, _, key in (line.partition(" ") for line in lines)]

    def _sent(self, request: ExecuteCall) -> Path:
        return self._directory / f"{request.session_id}.sent"


@asynccontextmanager
async def _workers(settings: Settings, card: ToolCard, directory: Path) -> AsyncIterator[_Workers]:
    with (directory / LOG).open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "holdfast_workers.crash_check.attempts"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env=environment(settings, os.environ),
            start_new_session=True,  # a group of its own, to end with all that it forked
        )
    # For a lease to end, and two whole attempts with their probes.
    within_s = EFFECTS.lease.total_seconds() + 3 * card.timeout.total_seconds() + MARGIN_S
    try:
        yield _Workers(process, directory, within_s)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


class _Bench:
    def __init__(self, subject: Subject, ledger: Ledger, workers: _Workers) -> None:
        self._subject = subject
        self._ledger = ledger
        self._workers = workers
        self._standing = 0
        self._sends = False
        """Whether the tool ever sent through `ToolContext.http`."""

    async def runs(self, calls: list[CheckedCall], say: Callable[[str], None]) -> Report:
        self._standing = await self._counted()
        trials: list[Trial] = []
        try:
            for call in calls:
                trials.append(await self._planned(call))
            first = await self._calm(trials[0])
            say("without a crash: done")
            lost = []
            for point, trial in zip(ATTEMPT_POINTS, trials[1:], strict=True):
                lost.append(await self._lose(point, trial))
                say(f"{point}: {'lost' if lost[-1].crashed else 'the tool does not pass here'}")
            found = [await self._find(each) for each in lost]
        finally:
            for trial in trials:
                await end(self._ledger, trial)
        return judge(self._subject.card.name, calls[0].tier, calls[0].recovery, (first, *found))

    async def _calm(self, trial: Trial) -> Run:
        began = time.monotonic()
        outcome = await self._workers.execute(trial.request)
        if outcome is None or outcome.status is not CallStatus.OK:
            said = (outcome.text or outcome.held or outcome.status) if outcome else "its worker was killed"
            name = self._subject.card.name
            raise CannotCheck(f"`{name}` failed although nothing was lost, so nothing can be said: {said}")
        run = await self._run(_Lost(point=None, trial=trial, crashed=False, began=began, effects=0))
        if run.effects == 0 and self._tier(trial) is not Tier.READ:
            raise CannotCheck("The count did not change although the call succeeded: it counts something else.")
        return run

    async def _lose(self, point: FaultPoint, trial: Trial) -> _Lost:
        """A worker that dies at the point, or settles the call where the tool does not pass it."""
        began = time.monotonic()
        crashed = await self._workers.execute(trial.request, crash_at=point) is None
        return _Lost(point=point, trial=trial, crashed=crashed, began=began, effects=await self._more())

    async def _find(self, lost: _Lost) -> Run:
        """What another worker makes of it."""
        await self._workers.execute(lost.trial.request)
        run = await self._run(lost)
        if run.state == "unknown" and run.effects is not None:
            await settle(self._ledger, lost.trial, happened=run.effects > 0, by=self._subject.by)
        return run

    async def _run(self, lost: _Lost) -> Run:
        effect = await self._ledger.reader.effect(lost.trial.effect_id)
        attempts = await self._ledger.reader.attempts(lost.trial.effect_id)
        reads = self._tier(lost.trial) is Tier.READ
        sent = self._workers.sent(lost.trial.request)
        self._sends = self._sends or bool(sent)
        counted = [key for method, key in sent if reads or method not in READS]
        return Run(
            point=lost.point,
            crashed=lost.crashed,
            attempts=len(attempts),
            sent=len(counted) if self._sends else None,
            keys=len(set(counted)),
            effects=lost.effects + await self._more() if self._subject.count else None,
            state=STATES.get(effect.state, "not settled"),
            seconds=round(time.monotonic() - lost.began, 1),
            effect_id=lost.trial.effect_id,
        )

    def _tier(self, trial: Trial) -> Tier:
        return trial.request.tier or self._subject.card.tier

    async def _planned(self, call: CheckedCall) -> Trial:
        undo = self._subject.book.undo(self._subject.book.tool(self._subject.card))
        compensations = (undo,) if undo else ()
        return await planned(
            self._ledger, card=self._subject.card, compensations=compensations, checked=call, by=self._subject.by
        )

    async def _counted(self) -> int:
        return await self._subject.count() if self._subject.count else 0

    async def _more(self) -> int:
        """Effects that came to stand since the last look."""
        before, self._standing = self._standing, await self._counted()
        return self._standing - before


@dataclass(frozen=True, kw_only=True)
class _Lost:
    """A run whose worker is gone. `effects`: those that came to stand so far."""

    point: FaultPoint | None
    trial: Trial
    crashed: bool
    began: float
    effects: int


def environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The user's own, so that the tool finds its service, with the flags of this command line in it."""
    given: dict[str, Any] = {
        "HOLDFAST_HOME": settings.home,
        "HOLDFAST_CONFIG": settings.config,
        "HOLDFAST_DSN": settings.dsn,
        "HOLDFAST_PGBOUNCER": "true" if settings.pgbouncer else None,
    }
    return {**environ, **{name: str(value) for name, value in given.items() if value is not None}}
