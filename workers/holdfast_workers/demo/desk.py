"""The travel desk's services as an outsider sees them: their log, and the faults they can be told to have."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import httpx2

from holdfast.wire import Wire

ANSWER_WITHIN_S = 10.0
STALL_S = 20.0
"""Far longer than it takes to notice the request and kill who sent it, and less than the tool's own timeout."""


class LogEntry(Wire):
    """One line of the services' request log. `outcome`: carried_out, replayed, refused or read."""

    seq: int
    outcome: str
    kind: str
    idempotency_key: str | None


class Desk:
    """Use it as an async context manager. Methods raise `httpx2.HTTPError` where the desk does not answer."""

    def __init__(self, url: str) -> None:
        # Whatever proxy the environment names is not for loopback.
        self._http = httpx2.AsyncClient(base_url=url, timeout=ANSWER_WITHIN_S, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def prepare(self) -> int:
        """Put bookings, seats and money back as they were at first; returns where the log stands."""
        await self._ask("POST", "/_restore")
        await self._ask("DELETE", "/_faults")
        return int((await self._ask("GET", "/_log"))["last"])

    async def stall_next_write(self) -> None:
        """The next write is carried out or refused at once, and its answer is held back for `STALL_S`."""
        fault = {"path": "*", "method": "POST", "kind": "stall_after", "seconds": STALL_S}
        await self._ask("POST", "/_faults", json=[fault])

    async def refuse_refunds(self) -> None:
        """The payment service refuses every refund from now on, for good."""
        fault = {"path": "/payments/refunds", "method": "POST", "kind": "refuse_402", "times": 100}
        await self._ask("POST", "/_faults", json=[fault])

    async def log(self, *, since: int) -> list[LogEntry]:
        """The entries after number `since`, oldest first."""
        answer = await self._ask("GET", "/_log", params={"since": since})
        return [LogEntry.model_validate(entry) for entry in answer["entries"]]

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        response = await self._http.request(method, path, **options)
        response.raise_for_status()
        return response.json()
