"""A ledger, a travel desk and the tools that are checked against it; all checks of the module run side by side."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from holdfast_workers.stack.servers import ServerAddresses
from tests.conftest import Database, cloned
from tests.examples.travel.conftest import DeskProcess

TOOLS = '''
import os
from holdfast import DidNotHappen, Idempotent, Landed, Never, Operator, Probe, ToolContext, tool

DESK = os.environ["TRAVEL_DESK_URL"]
FINAL = Never("it is sent")


async def mail(ctx, subject, **changes):
    body = {"to": "check@example.com", "subject": subject, "body": "hello"}
    request = ctx.http.build_request("POST", f"{DESK}/mail/messages", json=body)
    if changes.get("keyless"):
        del request.headers["Idempotency-Key"]
    answer = await ctx.http.send(request)
    answer.raise_for_status()
    return answer.json()["mail_id"]


@tool(tier="irreversible", recovery=Idempotent(key_ttl="24h"), undo=FINAL)
async def notice(ctx: ToolContext, subject: str) -> str:
    """Send a notice, once per key."""
    print("what a tool prints is no answer")
    return await mail(ctx, subject)


@tool(tier="irreversible", recovery=Idempotent(key_ttl="24h"), undo=FINAL)
async def careless(ctx: ToolContext, subject: str) -> str:
    """Claim to be idempotent, and send no key."""
    return await mail(ctx, subject, keyless=True)


@tool(tier="irreversible", recovery=Operator(), undo=FINAL)
async def letter(ctx: ToolContext, subject: str) -> str:
    """Send what only a person can look up."""
    return await mail(ctx, subject, keyless=True)


async def was_it_paid(ctx: ToolContext, booking_id: str, reason: str) -> Landed | DidNotHappen:
    answer = await ctx.http.post(f"{DESK}/effects/{ctx.idempotency_key}/refuse")
    said = answer.json()
    return Landed(said["result"]["refund_id"]) if said["state"] == "landed" else DidNotHappen(final=True)


@tool(tier="irreversible", recovery=Probe(was_it_paid), undo=FINAL)
async def refund(ctx: ToolContext, booking_id: str, reason: str) -> str:
    """Pay one euro back."""
    asked = {"booking_id": booking_id, "amount_cents": 100, "reason": reason}
    answer = await ctx.http.post(f"{DESK}/payments/refunds", json=asked)
    answer.raise_for_status()
    return answer.json()["refund_id"]
'''


@dataclass(frozen=True, kw_only=True)
class Checked:
    """How one command line ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> Mapping[str, Any]:
        """The report, of one that was asked for as JSON."""
        found: Mapping[str, Any] = json.loads(self.out)
        return found

    def at(self, point: str | None) -> Mapping[str, Any]:
        return next(run for run in self.said["runs"] if run["point"] == point)

    def each(self, field: str) -> list[Any]:
        """One field of every run: of the calm one, then in the order of the fault points."""
        return [run[field] for run in self.said["runs"]]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """`await bench("notice", ...)`: one `tool check` in a process of its own."""

    directory: Path
    database: Database
    desk: DeskProcess
    counts: str
    """Where `/WORD` is answered with how many effects stand that have this word in their arguments."""

    async def __call__(self, tool: str, *options: str) -> Checked:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "holdfast_cli", "tool", "check", f"checked_tools:{tool}", *options),
            cwd=self.directory,
            env={
                "PATH": os.environ["PATH"],
                "HOLDFAST_HOME": str(self.directory),
                "HOLDFAST_DSN": self.database.dsn,
                "TRAVEL_DESK_URL": self.desk.url,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return Checked(code=process.returncode or 0, out=out.decode(), err=err.decode())

    async def states(self, tool: str) -> list[str]:
        """Where the tool's effects stand in the ledger, in alphabetical order."""
        connection = await asyncpg.connect(self.database.owner_dsn)
        try:
            rows = await connection.fetch("SELECT state FROM holdfast.effect WHERE tool = $1 ORDER BY state", tool)
        finally:
            await connection.close()
        return [row["state"] for row in rows]

    async def crash(self, tool: str, **arguments: str) -> Checked:
        """A check by crashes, as JSON; its count knows the effects by the tool's name in the arguments."""
        count = f"{self.counts}/{tool}-"
        return await self(tool, "--crash", "--args", json.dumps(arguments), "--count-url", count, "--json")


@asynccontextmanager
async def counting(desk: DeskProcess) -> AsyncIterator[str]:
    """The desk's own log, as a number."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        word = (await reader.readuntil(b"\r\n\r\n")).decode().split()[1].strip("/")
        entries = (await desk.get("/_log")).json()["entries"]
        stand = sum(each["outcome"] == "carried_out" and word in str(each["arguments"]) for each in entries)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(str(stand))}\r\n\r\n{stand}".encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"


@pytest.fixture(scope="module")
async def bench(
    servers: ServerAddresses, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bench]:
    directory = tmp_path_factory.mktemp("tool-check")
    (directory / "holdfast.toml").write_text("[agents.default]\ntools = []\n")
    (directory / "checked_tools.py").write_text(TOOLS)
    desk = DeskProcess(directory / "desk")
    try:
        async with cloned(servers, template) as database, counting(desk) as counts:
            yield Bench(directory=directory, database=database, desk=desk, counts=counts)
    finally:
        desk.stop()


@pytest.fixture(scope="module")
async def checks(bench: Bench) -> Mapping[str, Checked]:
    """The check of each tool, by the tool's name."""
    (await bench.desk.post("/_seed", {"bookings": 6})).raise_for_status()
    mails = [bench.crash(tool, subject=f"{tool}-{{run}}") for tool in ("notice", "careless", "letter")]
    refund = bench.crash("refund", booking_id="LOAD-{run}", reason="refund-{run}")
    notice, careless, letter, refunded = await asyncio.gather(*mails, refund)
    return {"notice": notice, "careless": careless, "letter": letter, "refund": refunded}
