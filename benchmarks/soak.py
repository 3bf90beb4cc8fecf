"""`python -m benchmarks.soak`: one session and thousands of messages; what each costs stays the same.

The first and the last messages are sent each when the one before was answered, all others while some are queued.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from benchmarks.judged import judge
from benchmarks.one_worker import QUEUE, OneWorker, Stalled, one_worker, until
from benchmarks.results import Machine
from benchmarks.soak_results import Results, Run, Stage, middle_ms, table
from holdfast.states import SessionStatus
from holdfast_ledger.verify import verify_session
from holdfast_workers.client import Holdfast

OUTPUT = Path(__file__).with_name("soak.json")
CONFIG = """
[agents.window]
model = "scripted"
system = "You listen."

[agents.window.memory]
strategy = "window"
above = 4000
down_to = 2000

[agents.window.limits]
turns = 1000000

[agents.full]
model = "scripted"
system = "You listen."

[agents.full.limits]
turns = 1000000
"""
FILLER = "The river rose in the night, and by morning the lower meadow stood under water as far as the old mill. "
PATIENCE_S = 300
LOOK_EVERY_S = 0.005
STAGES = 10

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    messages: int = 10_000
    alone: int = 100
    """Messages at either end that are sent when nothing is queued."""
    queued: int = 50
    """Messages that wait at most, of the 100 that a session takes."""
    memory: str = "window"
    """`window` keeps the requests to the model short; with `full` each is longer than the one before."""

    def __post_init__(self) -> None:
        assert self.messages >= 2 * self.alone + STAGES


@dataclass
class Talk:
    """One session, and what was said to it so far."""

    worker: OneWorker
    holdfast: Holdfast
    database: asyncpg.Connection
    session: str
    sent: int = 1
    """Messages; the session started with the first."""

    async def say(self) -> None:
        await self.holdfast.send(self.session, text(self.sent), by="ann", message_id=f"m{self.sent}")
        self.sent += 1

    async def until_answered(self, number: int) -> None:
        """Wait until so many messages are answered. A plain answer is one turn."""

        async def answered() -> bool:
            return (await self.holdfast.reader.session(self.session)).turns >= number

        await until(answered, f"message {number} to be answered", within_s=PATIENCE_S, every_s=LOOK_EVERY_S)

    async def alone(self, messages: int) -> list[float]:
        """Send so many, each when the one before was answered. Returns the seconds each took."""
        await self.until_answered(self.sent)
        taken = []
        for _ in range(messages):
            began = time.monotonic()
            await self.say()
            await self.until_answered(self.sent)
            taken.append(time.monotonic() - began)
        return taken

    async def stage(self, messages: int, queued: int) -> Stage:
        """Send so many while no more than `queued` wait, and wait for all answers."""
        began, cpu, stored = time.monotonic(), self.worker.cpu_s, await self._stored()
        for _ in range(messages):
            await self.until_answered(self.sent - queued)
            await self.say()
        await self.until_answered(self.sent)
        return Stage(
            answered=self.sent,
            ms_per_message=round((time.monotonic() - began) * 1000 / messages, 1),
            cpu_ms_per_message=round((self.worker.cpu_s - cpu) * 1000 / messages, 1),
            rss_mb=round(self.worker.rss_mb, 1),
            stored_per_message=round((await self._stored() - stored) / messages),
        )

    async def _stored(self) -> int:
        return int(await self.database.fetchval("SELECT pg_database_size(current_database())"))


def text(number: int) -> str:
    return f"say {number} and bear in mind: {FILLER}"


async def measure(worker: OneWorker, plan: Plan, tell: Tell = lambda line: None) -> Results:
    """The whole conversation. The stack must have nothing else to do."""
    began, clock, load = datetime.now(UTC), time.monotonic(), [os.getloadavg()[0]]
    database = await asyncpg.connect(worker.place.addresses.migrate_dsn)
    async with await Holdfast.connect(worker.place.settings(QUEUE)) as holdfast:
        session = (await holdfast.start(text(0), agent=plan.memory)).session_id
        talk = Talk(worker, holdfast, database, session)
        early = await talk.alone(plan.alone)
        each, more = divmod(plan.messages - 1 - 2 * plan.alone, STAGES)
        stages = []
        for number in range(STAGES):
            stages.append(await talk.stage(each + (number < more), plan.queued))
            load.append(os.getloadavg()[0])
            tell(f"{talk.sent} of {plan.messages}: {stages[-1]}")
        late = await talk.alone(plan.alone)
        await holdfast.close_session(session, by="ann")
        result = await holdfast.result(session)
        if result.status != SessionStatus.COMPLETED or result.turns != plan.messages:
            raise Stalled(f"the session ended with {result}")
        took = time.monotonic() - clock
        runs = await runs_of(holdfast, session)
        verdict = await verify_session(holdfast.ledger.database, session)
        if verdict.problem:
            raise Stalled(f"its chain is broken: {verdict.problem}")
        answered = await answered_in_order(holdfast, session)
    await database.close()
    whole = runs[1:-1] or runs  # the first was given a message alone, the last is cut short
    return Results(
        messages=plan.messages,
        memory=plan.memory,
        runs=len(runs),
        answered_once_in_order=answered,
        alone_ms_early=middle_ms(early),
        alone_ms_late=middle_ms(late),
        stages=tuple(stages),
        early=whole[0],
        late=whole[-1],
        verified_entries=verdict.entries,
        took_s=round(took, 1),
        began=began,
        machine=Machine.here(load),
    )


async def answered_in_order(holdfast: Holdfast, session: str) -> int:
    """How many messages stand in the transcript in the order they were sent, each once with its own answer."""
    transcript = await holdfast.ledger.transcript(session, await holdfast.reader.newest_head(session))
    said = [(message.role, _first_words(message.content)) for message in transcript]
    right = 0
    while said[2 * right : 2 * right + 2] == [("user", f"say {right}"), ("assistant", f"heard {right}")]:
        right += 1
    return right if len(said) == 2 * right else -len(said)


def _first_words(content: Any) -> str:
    words: str = content if isinstance(content, str) else content[0]["text"]
    return " ".join(words.split()[:2])


async def runs_of(holdfast: Holdfast, session: str) -> list[Run]:
    """What each run of the session's workflow left in history, the oldest first."""
    found: list[Run] = []
    run_id: str | None = None
    while True:
        handle = holdfast.temporal.get_workflow_handle(session, run_id=run_id)
        events = [event async for event in handle.fetch_history_events()]
        found.insert(0, _run(events))
        run_id = events[0].workflow_execution_started_event_attributes.continued_execution_run_id
        if not run_id:
            return found


def _run(events: Sequence[HistoryEvent]) -> Run:
    turns = sum(
        event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        and event.activity_task_scheduled_event_attributes.activity_type.name == "model_turn"
        for event in events
    )
    return Run(
        messages=turns,
        events_per_message=round(len(events) / max(turns, 1), 2),
        bytes_per_message=round(sum(event.ByteSize() for event in events) / max(turns, 1), 1),
        carried=events[0].ByteSize(),
    )


async def run(plan: Plan) -> Results:
    async with one_worker(CONFIG) as worker:
        return await measure(worker, plan, lambda line: print(line, file=sys.stderr, flush=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description="One session, message after message.")
    parser.add_argument("--messages", type=int, default=Plan.messages)
    parser.add_argument(
        "--memory", choices=("window", "full"), default=Plan.memory, help="the agent's memory strategy"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the numbers go")
    options = parser.parse_args()
    alone = min(Plan.alone, options.messages // 10)
    plan = Plan(messages=options.messages, alone=alone, memory=options.memory)
    judge("soak", run(plan), output=options.output, table=table)


if __name__ == "__main__":
    main()
