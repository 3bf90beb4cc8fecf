"""`python -m benchmarks.crowd`: many sessions wait for approval on one worker process; then people decide.

They decide at a steady rate, at the same rate from the loss of the worker on, and then all at once. A decision is
acted on when Postgres has recorded the approved call as done, which is a moment after its tool ran.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from temporalio.api.enums.v1 import EventType, TimeoutType
from temporalio.api.history.v1 import HistoryEvent

from benchmarks.crowd_results import Delays, Gathered, Memory, Phase, Restarted, Results, table
from benchmarks.judged import judge
from benchmarks.one_worker import QUEUE, OneWorker, Stalled, one_worker, until
from benchmarks.results import Machine
from holdfast.states import EffectState
from holdfast_ledger.standing import read_standing
from holdfast_ledger.verify import verify_all
from holdfast_ledger.views import Approval
from holdfast_workers.client import Holdfast

OUTPUT = Path(__file__).with_name("crowd.json")
CONFIG = """
[agents.default]
model = "scripted"
system = "You pay for things."
tools = ["benchmarks.tools:pay"]
"""
PATIENCE_S = 600
"""Longer than any phase should take: the bars are judged by what was measured."""
LOOK_EVERY_S = 0.5
SAMPLED = 20
"""Sessions of each phase whose histories are searched for what went wrong."""
WENT_WRONG = {
    EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT: "workflow tasks timed out",
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED: "workflow tasks failed",
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: "activities timed out",
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: "activities failed",
}
STICKY = TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START
MOVED = "moved"

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    sessions: int = 2000
    rate: float = 10
    """Decisions a second."""
    seconds: float = 30
    """How long each of the two steady phases goes on."""
    warm_up: int = 20
    """Sessions that run to their end first, since first ones load modules and open connections."""
    at_once: int = 50
    """Requests of the client in flight."""
    settle_s: float = 10
    """From the last session's ask to the memory that is called settled."""

    @property
    def steady(self) -> int:
        """Decisions of one steady phase."""
        return min(round(self.rate * self.seconds), self.sessions // 3)


@dataclass
class Crowd:
    """The sessions of one run, and when each was decided."""

    worker: OneWorker
    holdfast: Holdfast
    plan: Plan
    tell: Tell
    sampled: list[str] = field(default_factory=list)
    """Sessions of each phase whose histories are read in the end."""
    _decided_at: dict[str, float] = field(default_factory=dict)
    _how: Counter[str] = field(default_factory=Counter)

    async def start(self, sessions: int, *, beside: int = 0) -> None:
        """Start so many, and wait until each waits for a person, as `beside` of them do already."""
        room = asyncio.Semaphore(self.plan.at_once)

        async def one() -> None:
            async with room:
                await self.holdfast.start("pay 1", close_when_idle=True)

        async def all_wait() -> bool:
            return (await read_standing(self.holdfast.ledger.database)).approvals_waiting == sessions + beside

        await asyncio.gather(*(one() for _ in range(sessions)))
        await until(all_wait, f"{sessions} sessions to ask", within_s=PATIENCE_S, every_s=LOOK_EVERY_S)

    async def pending(self) -> list[Approval]:
        return await self.holdfast.reader.approvals()

    async def decide_steadily(self, approvals: Sequence[Approval]) -> None:
        """One after the other at the plan's rate, whether or not those before were answered."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as deciding:
            for number, approval in enumerate(approvals):
                await asyncio.sleep(began + number / self.plan.rate - time.monotonic())
                deciding.create_task(self._decide(approval))

    async def decide_at_once(self, approvals: Iterable[Approval]) -> None:
        room = asyncio.Semaphore(self.plan.at_once)

        async def one(approval: Approval) -> None:
            async with room:
                await self._decide(approval)

        await asyncio.gather(*(one(approval) for approval in approvals))

    async def phase(self, name: str, approvals: Sequence[Approval], deciding: Awaitable[None]) -> Phase:
        """Let all of them be decided, and wait until their sessions have ended."""
        left = len(await self.pending()) - len(approvals)
        how, cpu, began = self._how.copy(), self.worker.cpu_s, time.time()
        await deciding
        await self.until_left(left)
        self.sampled += [each.session_id for each in approvals[:: max(len(approvals) // SAMPLED, 1)]]
        done = await self._done_at()
        found = Phase(
            delays=self.delays(approvals, done),
            all_within_s=round(max(done[each.session_id] for each in approvals) - began, 2),
            recorded=(self._how - how)["recorded"],
            cpu_ms=round((self.worker.cpu_s - cpu) * 1000 / len(approvals), 1),
        )
        self.tell(f"{name}: {found}")
        return found

    async def delays_from(self, moment: float, approvals: Sequence[Approval]) -> Delays:
        """Counted from a moment where that is later than the decision."""
        return self.delays(approvals, await self._done_at(), since=moment)

    def delays(self, approvals: Sequence[Approval], done: dict[str, float], *, since: float = 0) -> Delays:
        ids = [approval.session_id for approval in approvals]
        return Delays.of([max(done[id] - max(self._decided_at[id], since), 0) for id in ids])

    async def until_left(self, sessions: int) -> None:
        """Wait until all but so many have ended."""

        async def ended() -> bool:
            standing = await read_standing(self.holdfast.ledger.database)
            return sum(standing.sessions.values()) == sessions

        await until(ended, f"all but {sessions} sessions to end", within_s=PATIENCE_S, every_s=LOOK_EVERY_S)

    async def _decide(self, approval: Approval) -> None:
        session = approval.session_id
        self._decided_at[session] = time.time()
        done = await self.holdfast.decide(session, approval.call, approve=True, digest=approval.digest, by="bob")
        self._how[done.how] += 1

    async def _done_at(self) -> dict[str, float]:
        """When each session's call was done, on the clock of Postgres, which is this machine's."""
        effects = await self.holdfast.reader.effects(tool="pay", states=[EffectState.DONE])
        return {each.session_id: each.settled_at.timestamp() for each in effects if each.settled_at}


@dataclass
class Marks:
    """The worker's memory and the machine's load, at the moments that have a name."""

    worker: OneWorker
    memory: dict[str, float] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)

    def take(self, name: str) -> None:
        self.memory[name] = round(self.worker.rss_mb, 1)
        self.load.append(os.getloadavg()[0])


async def measure(worker: OneWorker, plan: Plan, tell: Tell = lambda line: None) -> Results:
    """Everything, one phase after the other. The stack must have nothing else to do."""
    began, marks = datetime.now(UTC), Marks(worker)
    async with await Holdfast.connect(worker.place.settings(QUEUE)) as holdfast:
        crowd = Crowd(worker, holdfast, plan, tell)
        marks.take("started")
        await crowd.start(plan.warm_up)
        await crowd.decide_at_once(await crowd.pending())
        await crowd.until_left(0)
        marks.take("warm")
        gathered = await gather(crowd, marks)
        first = (await crowd.pending())[: plan.steady]
        steady = await crowd.phase("steady", first, crowd.decide_steadily(first))
        marks.take("after_steady")
        restarted = await lose(crowd)
        marks.take("restarted")
        left = len(await crowd.pending())
        await crowd.start(plan.sessions - left, beside=left)
        everyone = await crowd.pending()
        flood = await crowd.phase("at once", everyone, crowd.decide_at_once(everyone))
        marks.take("after_flood")
        memory, events = Memory(**marks.memory), await what_happened(holdfast, crowd.sampled)
        return Results(
            sessions=plan.sessions,
            rate=plan.rate,
            gathered=gathered,
            memory=memory,
            above_start_mb=round(memory.above_start, 1),
            kb_per_session=round((memory.above_start + memory.started - memory.warm) * 1000 / plan.sessions, 1),
            steady=steady,
            restarted=restarted,
            flood=flood,
            moved=events.pop(MOVED, 0),
            went_wrong=dict(events),
            sampled=len(crowd.sampled),
            verified=await verified(holdfast),
            began=began,
            machine=Machine.here(marks.load),
        )


async def gather(crowd: Crowd, marks: Marks) -> Gathered:
    """Start all of them, wait until each waits, and a while longer."""
    worker, sessions = crowd.worker, crowd.plan.sessions
    cpu, began = worker.cpu_s, time.monotonic()
    async with watched(worker) as seen:
        await crowd.start(sessions)
    took, spent = time.monotonic() - began, worker.cpu_s - cpu
    marks.take("waiting")
    marks.memory["most"] = round(max(seen), 1)
    await asyncio.sleep(crowd.plan.settle_s)
    marks.take("settled")
    found = Gathered(per_s=round(sessions / took, 1), cpu_ms=round(spent * 1000 / sessions, 1))
    crowd.tell(f"{sessions} wait: {found}, {marks.memory}")
    return found


async def lose(crowd: Crowd) -> Restarted:
    """Kill the worker, start another one, and decide all the while."""
    decided = (await crowd.pending())[: crowd.plan.steady]
    await crowd.worker.lose()
    lost = time.time()
    starting = asyncio.create_task(crowd.worker.start())
    phase = await crowd.phase("restarted", decided, crowd.decide_steadily(decided))
    await starting
    ready = crowd.worker.ready_at
    return Restarted(
        phase=phase, ready_after_s=round(ready - lost, 2), from_ready=await crowd.delays_from(ready, decided)
    )


@asynccontextmanager
async def watched(worker: OneWorker) -> AsyncIterator[list[float]]:
    """The worker's memory in MB, a few times a second for the length of the block."""
    seen = [worker.rss_mb]

    async def watch() -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            seen.append(worker.rss_mb)

    watching = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        watching.cancel()
        await asyncio.wait((watching,))


async def what_happened(holdfast: Holdfast, sessions: Sequence[str]) -> Counter[str]:
    """How many workflow tasks and activities of these sessions did not end as they should, by how."""
    found: Counter[str] = Counter()
    for session in sessions:
        history = holdfast.temporal.get_workflow_handle(session).fetch_history_events()
        found.update([what async for event in history if (what := happened(event))])
    return found


def happened(event: HistoryEvent) -> str | None:
    """`MOVED` where a task waited too long for the worker that keeps its session, and went to whoever is free."""
    if event.workflow_task_timed_out_event_attributes.timeout_type == STICKY:
        return MOVED
    return WENT_WRONG.get(event.event_type)


async def verified(holdfast: Holdfast) -> int:
    """How many chains verify. Raises `Stalled` naming one that does not."""
    number = 0
    async for verdict in verify_all(holdfast.ledger.database):
        if verdict.problem:
            raise Stalled(f"the chain of {verdict.session_id} is broken: {verdict.problem}")
        number += 1
    return number


async def run(plan: Plan) -> Results:
    async with one_worker(CONFIG) as worker:
        return await measure(worker, plan, lambda line: print(line, file=sys.stderr, flush=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.crowd", description="Many sessions that wait for approval.")
    parser.add_argument("--sessions", type=int, default=Plan.sessions, help="that wait at the same time")
    parser.add_argument("--rate", type=float, default=Plan.rate, help="decisions a second in the steady phases")
    parser.add_argument("--seconds", type=float, default=Plan.seconds, help="how long a steady phase goes on")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the numbers go")
    options = parser.parse_args()
    plan = Plan(sessions=options.sessions, rate=options.rate, seconds=options.seconds)
    judge("crowd", run(plan), output=options.output, table=table)


if __name__ == "__main__":
    main()
