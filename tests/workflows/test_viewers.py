"""Watching costs a session nothing, however many watch."""

from __future__ import annotations

import asyncio

from holdfast_ledger.watching import Told
from tests.waiting import until
from tests.workflows.conftest import Runs
from tests.workflows.scenarios import PAY

VIEWERS = 20


async def test_20_viewers_add_no_event_and_an_approval_is_decided_while_they_watch(
    open_house, config: str, runs: Runs
) -> None:
    async with open_house(PAY, config=config) as house:
        session = await house.start("pay")
        asked = await house.until_asked(session)
        before = await house.events_when_it_waits(session)
        seen: list[list[str]] = [[] for _ in range(VIEWERS)]

        async def watch(kinds: list[str]) -> None:
            async for event in house.holdfast.ledger.watch(session):
                if isinstance(event, Told):
                    kinds.append(event.entry.kind)
                    if event.entry.kind == "saga_closed":
                        return

        async with asyncio.TaskGroup() as viewers:
            for kinds in seen:
                viewers.create_task(watch(kinds))
            await until(lambda: all("approval_asked" in kinds for kinds in seen), "all to see what is asked")
            assert len(await house.history(session)) == before
            decided = await house.holdfast.decide(
                session, asked["call"], approve=True, digest=asked["digest"], by="bob"
            )
            assert decided.how == "now"
            await house.until(session, "idle")
        assert runs() == ["pay 500"]
        told = [entry["kind"] for entry in await house.entries(session)]
        assert all(kinds == told[: len(kinds)] for kinds in seen), "each saw all of it, in order"
