"""The monkey: strikes as the run goes on, one after the other, and writes down what really struck."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast_workers.chaos.armed import Armed
from holdfast_workers.chaos.faults import KILLS, Strike
from holdfast_workers.chaos.house import House, run_sql
from holdfast_workers.chaos.processes import Worker, send

NO_PROGRESS_S = 6.0
"""Strike on although nothing was done meanwhile: what waits for a lease would wait for us, too."""
REACHED_WITHIN_S = 8.0
LOOK_EVERY_S = 0.05
BURST_EVERY_S = 0.05

Tell = Callable[[str], None]


@dataclass(kw_only=True)
class Monkey:
    """One run's. `progress` tells how much of the work is done, from 0 to 1."""

    house: House
    strikes: Sequence[Strike]
    progress: Callable[[], float]
    tell: Tell
    struck: Counter[str] = field(default_factory=Counter)
    journal: list[dict[str, Any]] = field(default_factory=list)
    _thawing: set[asyncio.Task[None]] = field(default_factory=set)
    _began: float = field(default_factory=time.monotonic)

    @property
    def kills(self) -> int:
        return sum(self.struck[kind] for kind in KILLS)

    async def run(self) -> None:
        """Strike everything, spread over the run's work."""
        for strike in self.strikes:
            await self._until(strike.number / (len(self.strikes) + 1))
            await self._strike(strike)
        self.house.armory.disarm()
        await asyncio.gather(*self._thawing)

    async def _until(self, share: float) -> None:
        seen, since = -1.0, time.monotonic()
        while self.progress() < share and time.monotonic() - since < NO_PROGRESS_S:
            if self.progress() > seen:
                seen, since = self.progress(), time.monotonic()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _strike(self, strike: Strike) -> None:
        how: Mapping[str, Callable[[Strike], Awaitable[Any]]] = {
            "kill": self._kill,
            "shutdown": self._shutdown,
            "crash_at": self._crash_at,
            "freeze": self._freeze,
            "freeze_at": self._freeze_at,
            "postgres_restart": self._restart_postgres,
            "postgres_pause": self._pause_postgres,
            "backend_kill": self._end_backends,
            "temporal_restart": self._restart_temporal,
            "desk": self._spoil_desk,
            "model": self._spoil_model,
        }
        found = await how[strike.kind](strike)
        detail = {name: value for name, value in strike.detail.items() if name != "place"}
        self._note(strike, {**detail, "found": found})

    def _note(self, strike: Strike, detail: Mapping[str, Any]) -> None:
        at = round(time.monotonic() - self._began, 1)
        self.journal.append({"at_s": at, "number": strike.number, "kind": strike.kind, **detail})
        said = " ".join(f"{name}={value}" for name, value in detail.items())
        self.tell(f"{at:7.1f} s  {strike.number:>3}/{len(self.strikes)} {strike.kind} {said}")

    async def _one_of(self, strike: Strike) -> Worker:
        """A worker that serves, which one the seed says."""
        while not (serving := self.house.serving()):  # noqa: ASYNC110 - processes tell
            await asyncio.sleep(LOOK_EVERY_S)
        place: float = strike.detail.get("place", 0.0)
        return serving[math.floor(place * len(serving))]

    async def _kill(self, strike: Strike) -> int | None:
        pid = (await self._one_of(strike)).kill()
        self.struck["kill"] += pid is not None
        return pid

    async def _shutdown(self, strike: Strike) -> int | None:
        pid = (await self._one_of(strike)).kill(signal.SIGTERM)
        self.struck["shutdown"] += pid is not None
        return pid

    async def _crash_at(self, strike: Strike) -> int | None:
        pid = await self._armed(strike, Armed(strike.number, strike.detail["point"], strike.detail["of"], "crash"))
        if pid is None:  # nobody comes there any more
            return await self._kill(strike)
        self.struck["crash_at"] += 1
        return pid

    async def _freeze_at(self, strike: Strike) -> int | None:
        pid = await self._armed(strike, Armed(strike.number, strike.detail["point"], strike.detail["of"], "freeze"))
        worker = next((one for one in self.house.workers if one.pid == pid), None) if pid else None
        if worker is None:
            return None
        self._stand_still(worker, strike)
        self.struck["freeze_at"] += 1
        return pid

    async def _armed(self, strike: Strike, armed: Armed) -> int | None:
        """Pid of the worker that reached the fault point; None where none did in time."""
        self.house.armory.arm(armed)
        deadline = time.monotonic() + REACHED_WITHIN_S
        while (pid := self.house.armory.struck(armed)) is None:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(LOOK_EVERY_S)
        if pid is None:
            self.house.armory.disarm()
            pid = self.house.armory.struck(armed)  # at the very last moment
        return pid

    async def _freeze(self, strike: Strike) -> int | None:
        worker = await self._one_of(strike)
        pid = worker.kill(signal.SIGSTOP)
        if pid is not None:
            self._stand_still(worker, strike)
            self.struck["freeze"] += 1
        return pid

    def _stand_still(self, worker: Worker, strike: Strike) -> None:
        worker.frozen = True

        async def thaw() -> None:
            await asyncio.sleep(strike.detail["seconds"])
            worker.thaw()

        task = asyncio.create_task(thaw())
        self._thawing.add(task)

    async def _restart_postgres(self, strike: Strike) -> None:
        crash = strike.detail["how"] == "crash"
        await self.house.postgres.stop(signal.SIGQUIT if crash else None)
        await asyncio.sleep(strike.detail["seconds"])
        await self.house.postgres.start()
        self.struck["postgres_restart"] += 1

    async def _pause_postgres(self, strike: Strike) -> None:
        pids = self.house.postgres.pids()
        for pid in pids:
            send(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(strike.detail["seconds"])
        finally:
            for pid in pids:
                send(pid, signal.SIGCONT)
        self.struck["postgres_pause"] += 1

    async def _end_backends(self, strike: Strike) -> int:
        """End what is at work, in bursts; a connection of our own sees which."""
        ended = 0
        for _ in range(strike.detail["bursts"]):
            with contextlib.suppress(OSError):
                rows = await run_sql(self.house.addresses.migrate_dsn, "end_backends", strike.detail["at_once"])
                ended += int(str(rows[0][0]))
            await asyncio.sleep(BURST_EVERY_S)
        self.struck["backend_kill"] += ended
        return ended

    async def _restart_temporal(self, strike: Strike) -> None:
        await self.house.temporal.stop(signal.SIGKILL if strike.detail["how"] == "kill" else None)
        await asyncio.sleep(strike.detail["seconds"])
        await self.house.temporal.start()
        self.struck["temporal_restart"] += 1

    async def _spoil_desk(self, strike: Strike) -> None:
        await self.house.services.spoil_desk(*strike.detail["faults"])
        self.struck["desk"] += sum(fault["times"] for fault in strike.detail["faults"])

    async def _spoil_model(self, strike: Strike) -> None:
        await self.house.services.spoil_model(*strike.detail["faults"])
        self.struck["model"] += sum(fault["times"] for fault in strike.detail["faults"])
