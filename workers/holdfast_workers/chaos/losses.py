"""Losing a database for good: an older copy comes back, or nothing does. Nothing may be run on such a guess.

Each loss starts sessions of its own, takes the database away while they wait for a person, lets that person
decide, and looks: nothing was carried out, and somebody says why. Then the database that was lost comes back,
after all, and they must come to their end with everything done once.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.service import RPCError

from holdfast.errors import HoldfastError
from holdfast.states import SessionStatus
from holdfast_ledger.views import Approval
from holdfast_workers.chaos.crowd import Crowd
from holdfast_workers.chaos.house import House
from holdfast_workers.chaos.patience import AWAY, patiently
from holdfast_workers.chaos.people import APPROVER, Approver
from holdfast_workers.stack.processes import tail

Tell = Callable[[str], None]

WITHIN_S = 60.0
LOOK_EVERY_S = 0.3
NOTHING_FOR_S = 5.0
"""How long nothing may be carried out: far longer than a waiting call takes once it may run."""
METADATA = "__temporal_workflow_metadata"


@dataclass(kw_only=True)
class Loss:
    """What one loss works with, and the promises it found broken."""

    house: House
    crowd: Crowd
    approver: Approver
    tell: Tell
    broken: list[str]

    async def waiting(self, *, sessions: int, **options: bool) -> list[str]:
        """Start sessions; return when each waits for a person."""
        numbers = itertools.islice(self.crowd.asking(), sessions)
        started = [await self.crowd.start(number, **options) for number in list(numbers)]
        await self.until(lambda: self.all_ask(started), "the sessions ask")
        return started

    async def asked(self, sessions: list[str]) -> list[Approval]:
        pending = await patiently(self.crowd.client.reader.approvals)
        return [one for one in pending if one.session_id in sessions]

    async def decide(self, asked: list[Approval]) -> None:
        await asyncio.gather(*(self.approver.decide(one) for one in asked))

    async def until(self, condition: Callable[[], Awaitable[bool]], promise: str) -> bool:
        """Wait for it; a broken promise where it does not come."""
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            try:
                if await condition():
                    return True
            except (*AWAY, HoldfastError):  # also what a worker cannot be asked yet
                pass
            await asyncio.sleep(LOOK_EVERY_S)
        self.broken.append(f"{promise}: not within {WITHIN_S:g} s")
        return False

    async def nothing_happens(self, promise: str, *, since: int) -> None:
        """Nothing is carried out from now on, nor was since the log stood at `since`."""
        await asyncio.sleep(NOTHING_FOR_S)
        done = (await self.house.services.carried_out())[since:]
        if done:
            self.broken.append(f"{promise}: {', '.join(one.intent for one in done[:5])} was carried out")

    async def finish(self, sessions: list[str]) -> None:
        """Decide whatever is asked until all have ended; sessions that wait for a message are closed."""
        client = self.crowd.client

        async def ended() -> bool:
            await self.decide(await self.asked(sessions))
            await self.crowd.look()
            for one in sessions:
                if self.crowd.sessions[one].status is SessionStatus.IDLE:
                    await client.close_session(one, by=APPROVER)
            return all(self.crowd.sessions[one].status.ended for one in sessions)

        await self.until(ended, "the sessions go on when the database is back")

    async def all_ask(self, sessions: list[str]) -> bool:
        return {one.session_id for one in await self.asked(sessions)} == set(sessions)

    async def details(self, session_id: str) -> str:
        """What the session shows of itself in Temporal's UI."""
        handle = self.crowd.client.temporal.get_workflow_handle(session_id)
        shown = await handle.query(METADATA, result_type=WorkflowMetadata)
        return str(shown.current_details)


async def postgres_restored_older(loss: Loss) -> None:
    """Sessions that went on after the copy, and sessions that began after it."""
    house, client = loss.house, loss.crowd.client
    older, newer = (house.home.path / name for name in ("postgres.older", "postgres.newer"))
    went_on = await loss.waiting(sessions=2, close_when_idle=False)
    await house.postgres.stop()
    await copied(house.postgres_data, older)
    await house.postgres.start()

    await loss.decide(await loss.asked(went_on))
    await loss.until(lambda: _all(loss, went_on, SessionStatus.IDLE), "sessions come to rest")
    for session_id in went_on:
        # A message that nobody had, of the script that the session follows.
        again = loss.crowd.message(loss.crowd.numbers[session_id] + 10 * len(loss.crowd.shapes))
        await patiently(partial(client.send, session_id, again, by=APPROVER, message_id="again"))
    await loss.until(lambda: loss.all_ask(went_on), "the sessions ask again")
    began = await loss.waiting(sessions=2)

    asked = await loss.asked([*went_on, *began])
    await house.postgres.stop()
    house.postgres_data.rename(newer)
    older.rename(house.postgres_data)
    await house.postgres.start()
    stood = len(await house.services.carried_out())
    await loss.decide(asked)
    for session_id in (*went_on, *began):
        await loss.until(partial(_held, loss, session_id), "a session that Postgres is older than is held")
    await loss.nothing_happens("nothing is run on an older database", since=stood)
    loss.tell("  held: " + " ".join((await loss.details(began[0])).split())[:160])

    await house.postgres.stop()
    house.postgres_data.rename(older)
    newer.rename(house.postgres_data)
    await house.postgres.start()
    for session_id in (*went_on, *began):
        await patiently(partial(client.look_again, session_id, by=APPROVER, reason="the newer copy is back"))
    await loss.finish([*went_on, *began])


async def temporal_emptied(loss: Loss) -> None:
    """Sessions that wait for a person when Temporal forgets them."""
    house, client = loss.house, loss.crowd.client
    forgotten = await loss.waiting(sessions=2)
    asked = await loss.asked(forgotten)
    kept = house.home.path / "temporal.kept"
    await house.temporal.stop()
    moved(house.temporal_database, kept)
    await house.temporal.start()
    stood = len(await house.services.carried_out())

    refused = tail_size(house.home.log("worker-1"))
    house.workers[0].kill()
    for one in asked:
        try:
            await client.temporal.get_workflow_handle(one.session_id).signal("approve", {"call": one.call})
        except RPCError:
            continue
        loss.broken.append(f"an emptied Temporal knows no session: {one.session_id} took a signal")
    for session_id in forgotten:
        number = loss.crowd.numbers[session_id]
        again = await patiently(partial(loss.crowd.start_again, session_id, number))
        if again.fresh:
            loss.broken.append(f"a session is started once: {session_id} was started again")
    await loss.until(
        lambda: _said(house.home.log("worker-1"), "belongs to Temporal cluster", since=refused),
        "a worker refuses a Temporal that its ledger does not belong to, and says so",
    )
    await loss.nothing_happens("nothing is run again for an emptied Temporal", since=stood)
    loss.tell("  " + tail(house.home.log("worker-1"), since=refused).splitlines()[-1][:160])

    await house.temporal.stop()
    moved(house.temporal_database, house.home.path / "temporal.empty")
    moved(kept / house.temporal_database.name, house.home.path)
    await house.temporal.start()
    await loss.finish(forgotten)


LOSE: Mapping[str, Callable[[Loss], Awaitable[None]]] = {
    "postgres_restored_older": postgres_restored_older,
    "temporal_emptied": temporal_emptied,
}


async def lose(what: str, house: House, crowd: Crowd, approver: Approver, tell: Tell) -> list[str]:
    """Lose it, and find it again; returns the promises that broke, in words."""
    loss = Loss(house=house, crowd=crowd, approver=replace(approver, clumsy=False), tell=tell, broken=[])
    await LOSE[what](loss)
    return [f"{what}: {promise}" for promise in loss.broken]


async def _all(loss: Loss, sessions: list[str], status: SessionStatus) -> bool:
    await loss.decide(await loss.asked(sessions))
    await loss.crowd.look()
    return all(loss.crowd.sessions[one].status is status for one in sessions)


async def _held(loss: Loss, session_id: str) -> bool:
    return "held" in await loss.details(session_id)


async def _said(log: Path, words: str, *, since: int) -> bool:
    return words in tail(log, since=since)


def tail_size(log: Path) -> int:
    return log.stat().st_size


async def copied(source: Path, target: Path) -> None:
    """Copy a directory with its owners, which PostgreSQL insists on."""
    copying = await asyncio.create_subprocess_exec("cp", "-a", str(source), str(target))
    if await copying.wait():
        raise OSError(f"cannot copy `{source}` to `{target}`")


def moved(database: Path, to: Path) -> None:
    """Move Temporal's SQLite file, and what stands beside it, into the directory `to`."""
    to.mkdir(exist_ok=True)
    for ending in ("", "-wal", "-shm"):
        file = database.with_name(database.name + ending)
        if file.exists():
            file.rename(to / file.name)
