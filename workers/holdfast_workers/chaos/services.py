"""The services around the sessions, from outside: what they wrote down, and the faults they can be told to have."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from holdfast_ledger.sagas import undo_id

ANSWER_WITHIN_S = 20.0
INTENT = re.compile(r"\bS-(\d+)-\d+\b")
EFFECT = re.compile(r"\b[0-9a-f]{64}\b")


UNDO_OF = "undo of "
"""What an undo says before the intent that it takes back."""


@dataclass(frozen=True)
class Carried:
    """One effect that a service carried out: what for, and in whose name."""

    intent: str
    effect_id: str

    @property
    def undoes(self) -> str | None:
        """Id of the effect that it takes back."""
        return self.effect_id.removesuffix(undo_id("")) if self.intent.startswith(UNDO_OF) else None

    @property
    def session(self) -> int | None:
        """Number of the session that it is for; None for an undo."""
        found = INTENT.match(self.intent)
        return int(found[1]) if found else None


class Services:
    """The travel desk and the scripted model."""

    def __init__(self, *, desk: str, model: str) -> None:
        self._desk = desk
        self._model = model
        # Whatever proxy the environment names is not for loopback.
        self._http = httpx2.AsyncClient(timeout=ANSWER_WITHIN_S, trust_env=False)
        self._seen = 0
        self._carried: list[Carried] = []
        self._reading = asyncio.Lock()

    async def close(self) -> None:
        await self._http.aclose()

    async def add_bookings(self, count: int) -> list[str]:
        found = await self._ask("POST", f"{self._desk}/_seed", {"bookings": count})
        return list(found["booking_ids"])

    @property
    def known(self) -> int:
        """How many writes the last look found."""
        return len(self._carried)

    async def carried_out(self) -> Sequence[Carried]:
        """Every write so far, from the desk's own log, oldest first."""
        async with self._reading:
            found = await self._ask("GET", f"{self._desk}/_log?since={self._seen}")
            self._seen = found["last"]
            self._carried += [carried(entry) for entry in found["entries"] if entry["outcome"] == "carried_out"]
        return self._carried

    async def log(self) -> list[Mapping[str, Any]]:
        """The desk's whole log, as it wrote it."""
        found = await self._ask("GET", f"{self._desk}/_log")
        return list(found["entries"])

    async def spoil_desk(self, *faults: Mapping[str, Any]) -> None:
        await self._ask("POST", f"{self._desk}/_faults", list(faults))

    async def spoil_model(self, *faults: Mapping[str, Any]) -> None:
        await self._ask("POST", f"{self._model}/_faults", list(faults))

    async def heal(self) -> None:
        """Faults that have not struck shall not any more."""
        await self._ask("DELETE", f"{self._desk}/_faults")
        await self._ask("DELETE", f"{self._model}/_faults")

    async def _ask(self, method: str, url: str, body: Any = None) -> Any:
        response = await self._http.request(method, url, json=body)
        response.raise_for_status()
        return response.json() if response.content else None


def carried(entry: Mapping[str, Any]) -> Carried:
    """What a write's own arguments say of it."""
    said = " ".join(str(value) for value in entry["arguments"].values())
    intent, effect = INTENT.search(said), EFFECT.search(said)
    if UNDO_OF in said and intent and effect:
        return Carried(UNDO_OF + intent[0], undo_id(effect[0]))
    return Carried(intent[0] if intent else said, effect[0] if effect else "")
