"""One chaos run: a house, a crowd of sessions, the people around them, and a monkey."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.errors import HoldfastError
from holdfast_workers.chaos import faults, shapes
from holdfast_workers.chaos.crowd import Crowd
from holdfast_workers.chaos.faults import LOSSES, STORM
from holdfast_workers.chaos.house import House, open_house
from holdfast_workers.chaos.losses import lose
from holdfast_workers.chaos.monkey import Monkey
from holdfast_workers.chaos.oracle import ask_everybody
from holdfast_workers.chaos.patience import AWAY, patiently
from holdfast_workers.chaos.people import Approver, Resolver
from holdfast_workers.chaos.quitter import Quitter
from holdfast_workers.chaos.report import Report, judge, keep
from holdfast_workers.client import Holdfast
from holdfast_workers.temporal import silent_runtime

SETTLE_WITHIN_S = 150.0
"""Without any progress, once the storm is over: then what is open is stuck."""
LOOK_EVERY_S = 0.2
SWEEP_EVERY_S = 3.0
MORE_BOOKINGS = 20
"""For the sessions that losses start."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run."""

    home: Path
    sessions: int
    kills: int
    seed: int
    faults: tuple[str, ...] = (*STORM, *LOSSES)
    workers: int = 4

    @property
    def encrypted(self) -> bool:
        """Whether the ledger's contents are: with every other seed."""
        return self.seed % 2 == 1


async def run(plan: Plan, tell: Callable[[str], None]) -> Report:
    """Start everything in an empty `plan.home`, let it storm, and judge. Raises `StackError`."""
    began = time.monotonic()
    scripts = shapes.draw(plan.seed)
    tell(f"starting two servers, two services and {plan.workers} workers in {plan.home}")
    async with (
        open_house(
            plan.home, scenarios=shapes.scenarios(scripts), workers=plan.workers, encrypted=plan.encrypted
        ) as house,
        await Holdfast.connect(house.settings, runtime=silent_runtime()) as client,
    ):
        bookings = await house.services.add_bookings(plan.sessions + MORE_BOOKINGS)
        crowd = Crowd(client=client, shapes=scripts, bookings=bookings, wanted=plan.sessions)
        approver = Approver(client=client, seed=plan.seed, numbers=crowd.numbers, clumsy="approvals" in plan.faults)
        resolver = Resolver(client=client, house=house, given_up=crowd.given_up)
        quitter = Quitter(crowd=crowd, house=house, seed=plan.seed, kinds=plan.faults)
        monkey = Monkey(
            house=house,
            strikes=faults.draw(plan.seed, plan.kills, plan.faults),
            progress=lambda: house.services.known / max(crowd.expected, 1),
            tell=tell,
        )
        broken: list[str] = []
        struck: Counter[str] = Counter()
        async with beside(crowd.watch(), resolver.run(), count(house)):
            async with beside(approver.run()):
                async with beside(quitter.run()):
                    await asyncio.gather(crowd.start_all(), monkey.run())
                    await calm(house)
                async with beside(sweep(crowd)):
                    await settle(crowd, house, tell)
            for loss in [one for one in LOSSES if one in plan.faults]:
                tell(f"{LOSSES[loss]} ...")
                broken += await lose(loss, house, crowd, approver, tell)
                struck[loss] += 1
        truth = await ask_everybody(crowd, house, resolver)
        report = judge(
            seed=plan.seed,
            crowd=crowd,
            monkey=monkey,
            resolver=resolver,
            truth=truth,
            faults=monkey.struck + approver.struck + quitter.struck + struck,
            broken=tuple(broken),
            seconds=time.monotonic() - began,
        )
        if not report.broken:
            return report
        kept = await keep(house, crowd, monkey, truth, report)
        return report.model_copy(update={"artefacts": str(kept)})


async def calm(house: House) -> None:
    """End the storm: nothing is armed, spoiled or frozen any more."""
    await patiently(house.services.heal)
    house.armory.disarm()
    for worker in house.workers:
        worker.thaw()


async def settle(crowd: Crowd, house: House, tell: Callable[[str], None]) -> None:
    """Wait until every session has ended, or until nothing moves any more."""
    tell(f"the storm is over; {len(crowd.open)} sessions are open")
    seen, since = (-1, -1), time.monotonic()
    while (crowd.open or crowd.unfinished) and time.monotonic() - since < SETTLE_WITHIN_S:
        now = (len(crowd.open) + len(crowd.unfinished), house.services.known)
        if now != seen:
            seen, since = now, time.monotonic()
        await asyncio.sleep(LOOK_EVERY_S)


async def sweep(crowd: Crowd) -> None:
    """As a person who has looked: have unwound whatever lost its workflow, however many; cancel it."""
    while True:
        with contextlib.suppress(*AWAY, HoldfastError):
            await crowd.client.sweep(force=True)
        await asyncio.sleep(SWEEP_EVERY_S)


async def count(house: House) -> None:
    """Keep the services' log read, for ever; cancel it."""
    while True:
        await patiently(house.services.carried_out)
        await asyncio.sleep(LOOK_EVERY_S)


@asynccontextmanager
async def beside(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `works` beside the block, which ends them; one that fails ends the block with its error."""
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(work) for work in works]
        yield
        for task in running:
            task.cancel()
