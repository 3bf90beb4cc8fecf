"""The travel desk as a real process, one shared by the tests of this directory or one of a test's own."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.waiting import until

DEADLINE = 10  # seconds for a condition to come true


class DeskProcess:
    """One `python -m travel_desk.services`, and a client for it."""

    def __init__(self, data: Path) -> None:
        command = [sys.executable, "-m", "travel_desk.services", "--data", str(data)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().removeprefix("travel desk: ").strip()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal, wait for the end, return the exit code."""
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        code = self.process.wait(timeout=DEADLINE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def client(self) -> httpx2.AsyncClient:
        # Plain HTTP: without `verify=False` each client would load the CA list, some 50 ms.
        return httpx2.AsyncClient(base_url=self.url, timeout=DEADLINE, verify=False)

    async def get(self, path: str, **query: Any) -> httpx2.Response:
        async with self.client() as client:
            return await client.get(path, params=query)

    async def post(
        self, path: str, body: Any = None, *, key: str | None = None, headers: dict[str, str] | None = None
    ) -> httpx2.Response:
        sent = {**(headers or {}), **({"Idempotency-Key": key} if key else {})}
        async with self.client() as client:
            return await client.post(path, json=body, headers=sent)

    async def break_next(self, path: str, kind: str, **more: Any) -> None:
        (await self.post("/_faults", [{"path": path, "kind": kind, **more}])).raise_for_status()

    async def fault_was_taken(self) -> None:
        """Wait until a request has run into the injected fault."""
        await until(self._no_fault_pending, "the fault to strike")

    async def _no_fault_pending(self) -> bool:
        return not (await self.get("/_faults")).json()

    async def became(self, key: str) -> dict[str, Any]:
        """What the service says of a key."""
        found: dict[str, Any] = (await self.get(f"/effects/{key}")).json()
        return found

    async def has_landed(self, key: str) -> None:
        async def landed() -> bool:
            return bool((await self.became(key))["state"] == "landed")

        await until(landed, f"{key} to land")

    async def outcomes(self, key: str) -> list[str]:
        """The log's word on each request with this key, oldest first."""
        entries = (await self.get("/_log")).json()["entries"]
        return [entry["outcome"] for entry in entries if entry["idempotency_key"] == key]

    async def new_booking(self) -> str:
        booking: str = (await self.post("/_seed", {"bookings": 1})).json()["booking_ids"][0]
        return booking


@pytest.fixture(scope="session")
def shared_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeskProcess]:
    desk = DeskProcess(tmp_path_factory.mktemp("shared desk"))
    yield desk
    desk.stop()


@pytest.fixture
async def desk(shared_desk: DeskProcess) -> AsyncIterator[DeskProcess]:
    """The shared desk, with no fault left over in either direction."""
    yield shared_desk
    async with shared_desk.client() as client:
        await client.delete("/_faults")


@pytest.fixture
def start_desk() -> Iterator[Callable[[Path], DeskProcess]]:
    """Start desks of the test's own; what it does not stop is stopped here."""
    started: list[DeskProcess] = []

    def start(data: Path) -> DeskProcess:
        started.append(DeskProcess(data))
        return started[-1]

    yield start
    for running in started:
        running.stop(signal.SIGKILL)
