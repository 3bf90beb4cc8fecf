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
from holdfast_workers.crash_check.pace import EFFECTS
from holdfast_workers.crash_check.report import Report, Run, State, judge
from holdfast_workers.crash_check.trial import Trial, end, planned, settle
from holdfast_workers.settings import Settings

MARGIN_S = 30.0
"""A worker's start, and a busy machine, beyond what the tool itself may take."""
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
        bench = _Bench(settings, subject, ledger, directory)
        survivor = await opened.enter_async_context(bench.worker("survivor"))
        return await bench.runs(calls, survivor, say)


class _Worker:
    """A process of `crash_check.attempts`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, within_s: float) -> None:
        self._process = process
        self._log = log
        self._within_s = within_s
        self.died = False
        """It reached its fault point."""

    async def execute(self, request: ExecuteCall) -> CallOutcome | None:
        """Its outcome; None where the process died on purpose, or did not settle the call in time.

        Raises `CannotCheck` where the process ended in another way.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(request.model_dump_json().encode() + b"\n")
        with contextlib.suppress(TimeoutError, ConnectionError):
            await self._process.stdin.drain()
            if line := await asyncio.wait_for(self._process.stdout.readline(), self._within_s):
                return CallOutcome.model_validate_json(line)
            if (code := await self._process.wait()) != -signal.SIGKILL:
                said = self._log.read_text(errors="replace").strip()[-1000:]
                raise CannotCheck(f"The worker that runs the tool ended with {code}: {said}")
            self.died = True
        return None


class _Bench:
    def __init__(self, settings: Settings, subject: Subject, ledger: Ledger, directory: Path) -> None:
        self._settings = settings
        self._subject = subject
        self._ledger = ledger
        self._directory = directory
        self._standing = 0

    async def runs(self, calls: list[CheckedCall], survivor: _Worker, say: Callable[[str], None]) -> Report:
        self._standing = await self._counted()
        trials: list[Trial] = []
        try:
            for call in calls:
                trials.append(await self._planned(call))
            first = await self._calm(trials[0], survivor)
            say("without a crash: done")
            lost = []
            for point, trial in zip(ATTEMPT_POINTS, trials[1:], strict=True):
                lost.append(await self._lose(point, trial))
                say(f"{point}: {'lost' if lost[-1].crashed else 'the tool does not pass here'}")
            found = [await self._find(each, survivor) for each in lost]
        finally:
            for trial in trials:
                await end(self._ledger, trial)
        return judge(self._subject.card.name, calls[0].tier, calls[0].recovery, (first, *found))

    async def _calm(self, trial: Trial, survivor: _Worker) -> Run:
        lost = _Lost(
            point=None, trial=trial, crashed=False, began=time.monotonic(), effects=0, sent=self._log("survivor")
        )
        before = len(lost.lines())
        outcome = await survivor.execute(trial.request)
        if outcome is None or outcome.status is not CallStatus.OK:
            said = (outcome.text or outcome.held or outcome.status) if outcome else "it did not end in time"
            raise CannotCheck(
                f"`{self._subject.card.name}` failed although nothing was lost, so nothing can be said: {said}"
            )
        run = await self._run(lost, lost.lines()[before:])
        if run.effects == 0 and self._tier(trial) is not Tier.READ:
            raise CannotCheck("The count did not change although the call succeeded: it counts something else.")
        return run

    async def _lose(self, point: FaultPoint, trial: Trial) -> _Lost:
        """A worker that dies at the point, or settles the call where the tool does not pass it."""
        began = time.monotonic()
        async with self.worker(point, "--crash-at", point) as worker:
            outcome = await worker.execute(trial.request)
        crashed = outcome is None and worker.died
        effects = await self._more()
        return _Lost(point=point, trial=trial, crashed=crashed, began=began, effects=effects, sent=self._log(point))

    async def _find(self, lost: _Lost, survivor: _Worker) -> Run:
        """What the surviving worker makes of it."""
        survived = self._log("survivor")
        before = len(_lines(survived))
        await survivor.execute(lost.trial.request)
        run = await self._run(lost, [*lost.lines(), *_lines(survived)[before:]])
        if run.state == "unknown" and run.effects is not None:
            await settle(self._ledger, lost.trial, happened=run.effects > 0, by=self._subject.by)
        return run

    async def _run(self, lost: _Lost, lines: list[str]) -> Run:
        effect = await self._ledger.reader.effect(lost.trial.effect_id)
        attempts = await self._ledger.reader.attempts(lost.trial.effect_id)
        reads = self._tier(lost.trial) is Tier.READ
        sent = [line for line in lines if reads or line.split()[0] not in READS]
        effects = lost.effects + await self._more() if self._subject.count else None
        return Run(
            point=lost.point,
            crashed=lost.crashed,
            attempts=len(attempts),
            sent=len(sent) if self._sends else None,
            keys=len({line.split()[1] for line in sent}),
            effects=effects,
            state=STATES.get(effect.state, "not settled"),
            seconds=round(time.monotonic() - lost.began, 1),
            effect_id=lost.trial.effect_id,
        )

    @property
    def _sends(self) -> bool:
        """Whether the tool ever sent through `ToolContext.http`."""
        return any(_lines(path) for path in self._directory.glob("*.sent"))

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

    def _log(self, name: str) -> Path:
        return self._directory / f"{name}.sent"

    @asynccontextmanager
    async def worker(self, name: str, *options: str) -> AsyncIterator[_Worker]:
        log = self._directory / f"{name}.log"
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "holdfast_workers.crash_check.attempts"),
                *("--sent", str(self._log(name)), *options),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=environment(self._settings, os.environ),
            )
        try:
            yield _Worker(process, log, self._within_s)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    @property
    def _within_s(self) -> float:
        """For a lease to end, and two whole attempts with their probes."""
        return EFFECTS.lease.total_seconds() + 3 * self._subject.card.timeout.total_seconds() + MARGIN_S


@dataclass(frozen=True, kw_only=True)
class _Lost:
    """A run whose worker is gone. `effects`: those that came to stand so far."""

    point: FaultPoint | None
    trial: Trial
    crashed: bool
    began: float
    effects: int
    sent: Path

    def lines(self) -> list[str]:
        return _lines(self.sent)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The user's own, so that the tool finds its service, with the flags of this command line in it."""
    given: dict[str, Any] = {
        "HOLDFAST_HOME": settings.home,
        "HOLDFAST_CONFIG": settings.config,
        "HOLDFAST_DSN": settings.dsn,
        "HOLDFAST_PGBOUNCER": "true" if settings.pgbouncer else None,
    }
    return {**environ, **{name: str(value) for name, value in given.items() if value is not None}}
