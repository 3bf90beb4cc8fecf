"""The people around the sessions: one who approves, in every clumsy way, and one who finds out what happened.

Both use what the product offers people, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from temporalio.service import RPCError

from holdfast.errors import HoldfastError
from holdfast.states import EffectState, RecoveryClass
from holdfast_activities.calls.found import Found, landed
from holdfast_activities.redaction import Redactor
from holdfast_activities.tools.book import ToolBook
from holdfast_ledger.views import Approval, Effect
from holdfast_workers.chaos.house import House, agents_file
from holdfast_workers.chaos.patience import AWAY, patiently
from holdfast_workers.chaos.shapes import REVERSIBLE
from holdfast_workers.client import Holdfast
from holdfast_workers.config_file import load_config

LOOK_EVERY_S = 0.4
SAY_AGAIN_AFTER_S = 10.0
WAIT_BEFORE_ASKING = 6.0
"""Seconds until what was under way when doubt arose has arrived: longer than the services stall beyond a tool's
own timeout."""
APPROVER, RESOLVER = "amy", "rex"
MANNERS = ("plain", "plain", "twice", "twice", "wrong_first", "contradicted", "denied")


@dataclass(kw_only=True)
class Approver:
    """Decides what sessions ask, as the seed says: plainly, twice, contradicting itself, for other arguments."""

    client: Holdfast
    seed: int
    numbers: Mapping[str, int]
    clumsy: bool
    struck: Counter[str] = field(default_factory=Counter)
    _said: dict[tuple[str, str], float] = field(default_factory=dict)

    async def run(self) -> None:
        """For ever; cancel it."""
        while True:
            for asked in await patiently(self.client.reader.approvals):
                key = (asked.session_id, asked.call)
                if time.monotonic() - self._said.get(key, -SAY_AGAIN_AFTER_S) >= SAY_AGAIN_AFTER_S:
                    self._said[key] = time.monotonic()
                    await self.decide(asked)
            await asyncio.sleep(LOOK_EVERY_S)

    async def decide(self, asked: Approval) -> None:
        """Send the signals for one question, as anybody with Temporal's own command could."""
        choice = random.Random(f"approval {self.seed} {self.numbers.get(asked.session_id)} {asked.call}")
        manner = choice.choice(MANNERS) if self.clumsy else "plain"
        handle = self.client.temporal.get_workflow_handle(asked.session_id)
        signals = self._signals(manner, asked, choice)
        self.struck["approvals"] += manner != "plain"
        try:
            await asyncio.gather(*(handle.signal(name, payload) for name, payload in signals))
        except RPCError:
            self._said.pop((asked.session_id, asked.call), None)  # Temporal is away: say it again

    def _signals(self, manner: str, asked: Approval, choice: random.Random) -> list[tuple[str, dict[str, Any]]]:
        def payload(tail: str, digest: str = asked.digest) -> dict[str, Any]:
            return {"id": f"{asked.call}-{tail}", "call": asked.call, "digest": digest, "by": APPROVER}

        approve = ("approve", payload("a"))
        signals = {
            "plain": [approve],
            "twice": [approve, approve, ("approve", payload("b"))],
            "wrong_first": [("approve", payload("w", "0" * 64)), approve],
            "contradicted": [approve, ("deny", payload("d"))],
            "denied": [("deny", payload("d")), ("deny", payload("d"))],
        }[manner]
        choice.shuffle(signals)
        return signals


@dataclass(kw_only=True)
class Resolver:
    """Looks into the services' log for every effect in doubt, and tells the product what it found."""

    client: Holdfast
    house: House
    given_up: Collection[str] = ()
    """Sessions whose unwind finds out by itself what their classes can tell."""
    resolved: set[str] = field(default_factory=set)
    seen: dict[str, Effect] = field(default_factory=dict)
    """Every effect that was in doubt, by id."""
    book: ToolBook = field(default_factory=lambda: ToolBook(load_config(agents_file()), agents_file().parent))

    async def run(self) -> None:
        """For ever; cancel it."""
        while True:
            for effect in await patiently(self._doubtful):
                if effect.recovery is RecoveryClass.OPERATOR or effect.session_id not in self.given_up:
                    self.seen.setdefault(effect.effect_id, effect)
            for effect in [one for one in self.seen.values() if one.effect_id not in self.resolved]:
                await self._resolve(effect)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _doubtful(self) -> list[Effect]:
        return await self.client.reader.effects(states=[EffectState.UNKNOWN], kind="call")

    async def _resolve(self, effect: Effect) -> None:
        """Once nobody can be about to carry it out; a person would make sure of that, too."""
        since = (datetime.now(UTC) - effect.settled_at).total_seconds() if effect.settled_at else 0.0
        if self.house.frozen or since < WAIT_BEFORE_ASKING:
            return
        try:
            log = await self.house.services.carried_out()
            happened = any(one.effect_id == effect.effect_id for one in log)
            await self.client.resolve(
                effect.effect_id,
                outcome="happened" if happened else "did_not_happen",
                by=RESOLVER,
                reason="read in the services' own log",
                result=await self._result(effect) if happened and effect.tool in REVERSIBLE else None,
            )
        except AWAY:
            return  # again at the next look
        except HoldfastError:
            return
        self.resolved.add(effect.effect_id)

    async def _result(self, effect: Effect) -> Found:
        """As `effect resolve --result` makes it: without a result nobody knows what to undo."""
        ledger = self.client.ledger
        session = await self.client.reader.session(effect.session_id)
        catalogue = await ledger.catalogue(session.catalogue_digest or "")
        card, doubt = catalogue.card(effect.tool or ""), await ledger.doubt(effect.effect_id)
        assert card
        assert doubt
        return landed(
            self.book.tool(card),
            catalogue,
            card,
            call=effect.call or "",
            args=json.loads(doubt.args or b"{}"),
            value={"effect": effect.effect_id, "made": "found in the log"},
            redactor=Redactor({}),
        )

    @property
    def needless(self) -> list[Effect]:
        """Doubts about effects whose class could have told."""
        return [one for one in self.seen.values() if one.recovery is not RecoveryClass.OPERATOR]
