"""Any process of `holdfast up` is killed during the demo's session; what the services then wrote down is the same.

`make test` kills some of them in one session. `--kills N` kills each kind at N moments, one session each.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from temporalio.service import RPCError

from holdfast.errors import HoldfastError
from holdfast.messages import Principal
from holdfast_ledger.verify import verify_session
from holdfast_ledger.views import Session
from holdfast_workers.chaos.patience import patiently
from holdfast_workers.client import Holdfast
from holdfast_workers.demo.job import MESSAGE
from holdfast_workers.demo.parts import AGENT, DESK, NAME, Parts, client_settings
from holdfast_workers.settings import Settings
from holdfast_workers.stack.detached import start_detached
from holdfast_workers.stack.home import Home
from holdfast_workers.stack.leftovers import stop_running
from holdfast_workers.stack.runtime import last_record
from tests.waiting import until

SLICE = ("postgres", "temporal", "model", DESK, "supervisor")
EVERY = (*SLICE, "worker-1", "demo-worker", NAME)
SESSION_WITHIN_S = 150.0


@dataclass
class Stack:
    """`holdfast up` in a home of its own, and what the demo runs beside it."""

    home: Path
    settings: Settings | None = None
    clients: list[Holdfast] = field(default_factory=list)

    @property
    def client(self) -> Holdfast:
        """Reaches it where it is now: a stack that starts again may find its ports taken by somebody else."""
        return self.clients[-1]

    async def leave(self) -> None:
        for client in self.clients:
            await client.close()

    async def up(self) -> None:
        """Start it, or what of it does not run."""
        argv = [sys.executable, "-m", "holdfast_cli", "--home", str(self.home), "up"]
        await asyncio.to_thread(start_detached, self.home, argv)
        beside = await asyncio.to_thread(Parts(self.home).start)
        self.settings = client_settings(Settings.load(os.environ, home=self.home), beside)
        self.desk = beside.addresses.services[DESK]
        self.clients.append(await Holdfast.connect(self.settings))

    async def kill(self, kind: str) -> None:
        """SIGKILL to the process of this kind that lives now; start again what nobody else does."""

        def living() -> int | None:
            stack, beside = last_record(Home(self.home)), last_record(Home(self.home).companion(NAME))
            assert stack
            assert beside
            named = {one.name: one for one in (*stack.processes, *beside.processes)}
            named |= {"supervisor": stack.supervisor, NAME: beside.supervisor}
            process = named[kind].process() if kind in named else None
            return process.pid if process else None

        victim = await until(living, f"a live {kind}", within=60)
        os.kill(victim, signal.SIGKILL)
        await until(lambda: living() != victim, f"the end of {kind}")
        if kind in ("supervisor", NAME):
            await self.up()

    async def log(self, *, since: int = 0) -> Sequence[dict[str, Any]]:
        """What the services wrote down."""
        return list((await self._ask("GET", f"/_log?since={since}"))["entries"])

    async def restore(self) -> None:
        """Put bookings, seats and money back as they were at first."""
        await self._ask("POST", "/_restore")

    async def _ask(self, method: str, path: str) -> Any:
        async def answered() -> bytes | None:
            try:
                async with httpx2.AsyncClient(trust_env=False, timeout=5) as http:
                    return (await http.request(method, self.desk + path)).raise_for_status().content
            except httpx2.HTTPError:
                return None  # killed, and not up again yet

        return json.loads(await until(answered, f"the desk to answer {path}", within=30) or b"null")


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("HOLDFAST_", "TEMPORAL_", "ANTHROPIC_", "PG")):
                patch.delenv(name)
        stack = Stack(tmp_path_factory.mktemp("kills") / "a home")
        try:
            await stack.up()
            yield stack
        finally:
            await stack.leave()
            await asyncio.to_thread(stop_running, stack.home)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One session of the demo: how it ended, and what was done for it."""

    session: Session
    entries: int
    requests: Counter[str]
    """Each request that a service carried out."""
    problem: str | None
    killed: Sequence[str]
    """What died while the session lived."""


async def run(stack: Stack, kills: Sequence[tuple[int, str]] = ()) -> Ran:
    """The demo's session, to its end. `kills`: once the ledger has so many entries of it, this kind dies."""
    await stack.restore()
    since = max((entry["seq"] for entry in await stack.log()), default=0)
    killed: list[str] = []
    principal = Principal(requested_by="ann")
    session_id = (
        await stack.client.start(MESSAGE, agent=AGENT, principal=principal, close_when_idle=True)
    ).session_id
    approving = asyncio.create_task(approve(stack, session_id))
    try:
        for entries, kind in kills:
            if await until_told(stack, session_id, entries):
                killed.append(kind)
            await stack.kill(kind)
        session = await until_ended(stack, session_id)
    finally:
        approving.cancel()
        await asyncio.gather(approving, return_exceptions=True)
    verified = await patiently(lambda: verify_session(stack.client.ledger.database, session_id))
    carried_out = [entry for entry in await stack.log(since=since) if entry["outcome"] == "carried_out"]
    return Ran(
        session=session,
        entries=verified.entries,
        requests=Counter(request_of(entry) for entry in carried_out),
        problem=verified.problem,
        killed=killed,
    )


def request_of(entry: dict[str, Any]) -> str:
    """What was asked for, without the numbers that a service gave to what it made."""
    said = {name: value for name, value in entry["arguments"].items() if name != "hold_id"}
    return f"{entry['method']} {entry['path']} {json.dumps(said, sort_keys=True)}"


async def approve(stack: Stack, session_id: str) -> None:
    """Allow what is asked, by signal, until it is heard."""
    while True:
        with suppress(HoldfastError, RPCError):  # Temporal or Postgres is away
            handle = stack.client.temporal.get_workflow_handle(session_id)
            for asked in await stack.client.reader.approvals(session_id=session_id):
                await handle.signal("approve", {"call": asked.call, "digest": asked.digest, "by": "ann"})
        await asyncio.sleep(0.2)


async def until_told(stack: Stack, session_id: str, entries: int) -> bool:
    """Wait until the ledger has so many entries; False if the session ended before."""

    async def told() -> Session | None:
        with suppress(HoldfastError):
            reader = stack.client.reader
            session, seen = await reader.session(session_id), await reader.timeline(session_id)
            return session if session.status.ended or len(seen) >= entries else None
        return None

    reached = await until(told, f"{entries} entries of {session_id}", within=SESSION_WITHIN_S)
    return not reached.status.ended


async def until_ended(stack: Stack, session_id: str) -> Session:
    async def ended() -> Session | None:
        with suppress(HoldfastError):
            session = await stack.client.reader.session(session_id)
            return session if session.status.ended else None
        return None

    return await until(ended, f"{session_id} to end", within=SESSION_WITHIN_S)


@pytest.fixture(scope="module")
async def undisturbed(stack: Stack) -> Ran:
    ran = await run(stack)
    assert (ran.session.status, ran.problem) == ("completed", None)
    assert sum(ran.requests.values()) == 4
    return ran


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "dying" in metafunc.fixturenames:
        plans = {"slice": SLICE}
        for number in range(metafunc.config.getoption("--kills")):
            plans |= {f"{kind}-{number}": (kind,) for kind in EVERY}
        metafunc.parametrize(("seed", "dying"), plans.items(), ids=plans)


@pytest.mark.timeout(400)
async def test_killing_any_part_of_a_stack_changes_nothing_that_the_services_are_asked_for(
    stack: Stack, undisturbed: Ran, seed: str, dying: Sequence[str]
) -> None:
    choice = random.Random(seed)
    moments = sorted(choice.sample(range(1, undisturbed.entries - 3), len(dying)))
    ran = await run(stack, list(zip(moments, choice.sample(dying, len(dying)), strict=True)))
    assert (ran.session.status, ran.problem) == ("completed", None)
    assert ran.requests == undisturbed.requests
    assert len(ran.killed) >= len(dying) // 2, "the session outran its killers"
