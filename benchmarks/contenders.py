"""The sides: each runs one session of so many turns, from its start to its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from temporalio.client import Client

from benchmarks.bare_contracts import Job
from benchmarks.bare_loop import BareLoop
from benchmarks.place import QUEUES
from holdfast.states import SessionStatus
from holdfast_workers.client import Holdfast, new_id


class Contender(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def worker(self) -> str:
        """Whose process serves it, in `Place.pids`."""
        ...

    @property
    def model_activity(self) -> str:
        """The activity that begins a turn."""
        ...

    async def run(self, turns: int) -> str:
        """One session of `turns` turns with a call each and a last one without. Returns its workflow id."""
        ...


@dataclass(frozen=True)
class Bare:
    client: Client
    name: str = "bare"
    worker: str = "bare"
    model_activity: str = "ask_model"
    task_queue: str = QUEUES["bare"]
    verb: str = "work"

    async def run(self, turns: int) -> str:
        id, job = f"bare-{new_id()}", Job(turns=turns, verb=self.verb)
        done = await self.client.execute_workflow(BareLoop.run, job, id=id, task_queue=self.task_queue)
        assert done == turns
        return id


@dataclass(frozen=True)
class Own:
    holdfast: Holdfast
    name: str = "holdfast"
    agent: str = "default"
    worker: str = "holdfast"
    model_activity: str = "model_turn"
    verb: str = "work"

    async def run(self, turns: int) -> str:
        asked = f"{self.verb} {turns}"
        session = (await self.holdfast.start(asked, agent=self.agent, close_when_idle=True)).session_id
        result = await self.holdfast.result(session)
        assert result.status == SessionStatus.COMPLETED, result.reason
        assert result.calls == turns
        return session
