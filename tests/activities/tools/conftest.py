"""A session over the real ledger, the tools of `effect_tools`, and a service that misbehaves on demand."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from temporalio.testing import ActivityEnvironment

from holdfast import ids
from holdfast.config import Config
from holdfast.contracts import Authorization, CallOutcome, ExecuteCall, SagaRef
from holdfast.messages import Principal
from holdfast_activities.calls.report import CallReport
from holdfast_activities.execute_call import CallExecutions
from holdfast_activities.resources import Resources
from holdfast_activities.tools.arguments import CheckedCall, check_call
from holdfast_activities.tools.book import ToolBook, catalogue_body
from holdfast_ledger.records import PlannedCall
from holdfast_ledger.store import Ledger
from holdfast_workers.stack.ports import free_port
from tests.ledger.conftest import Conversation

HERE = Path(__file__).parent
ATTEMPTS = 3
TOOLS = (
    *("look", "pay_blindly", "pay", "pay_and_ask", "note", "hold", "slow_thread", "endless_read"),
    *("wait_for_ever", "returns", "typed", "secret_reader", "pay_through_a_cancel"),
)


@dataclass
class Service:
    """A small HTTP service: `/ok`, `/status/N`, `/drop`, `/stall`, `/gate`, `/probe/KEY`. Counts effects by key."""

    port: int
    effects: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    probe_says: str = "landed"
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await self._read(reader):
                method, path, headers = request
                self.requests.append(request)
                if method == "POST" and not path.startswith("/status/4"):
                    self.effects[headers.get("idempotency-key", "")] += 1
                if not await self._answer(path, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]] | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        await reader.readexactly(int(headers.get("content-length", 0)))
        return method, path, headers

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> bool:
        status, body = 200, json.dumps({"done": True})
        if path == "/drop":
            return False
        if path == "/stall":
            await asyncio.Event().wait()
        if path == "/gate":
            await self.gate.wait()
        if path.startswith("/probe/"):
            body = json.dumps({"said": self.probe_says})
        if path.startswith("/status/"):
            status = int(path.removeprefix("/status/"))
        extra = "Retry-After: 7\r\nX-Request-Id: req-1\r\n" if status >= 400 else ""
        if path == "/redirect":
            status, extra = 302, "Location: http://169.254.169.254/latest\r\n"
        writer.write(f"HTTP/1.1 {status} X\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        return True


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service(port=free_port())
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(service.serve(reader, writer))
        tasks.add(task)

    server = await asyncio.start_server(connected, "127.0.0.1", service.port)
    yield service
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Bench:
    """Plans calls in a real session and executes them as the worker does."""

    conversation: Conversation
    executions: CallExecutions
    book: ToolBook
    catalogue: str
    reports: list[CallReport]
    heads: dict[str, str] = field(default_factory=dict)
    """The head each planned call's effect id was made with."""

    async def plan(self, tool: str, **args: Any) -> PlannedCall:
        card = self.book.find(f"effect_tools:{tool}")
        checked = check_call(self.book.tool(card), card, args)
        assert isinstance(checked, CheckedCall), checked
        head = self.conversation.head
        call = await self.conversation.plan(
            checked.recovery,
            tool=tool,
            tier=checked.tier,
            args=checked.args,
            digest=ids.salted_digest(b"salt", checked.args),
        )
        self.heads[call.effect_id] = head
        return call

    def request(self, call: PlannedCall, **changes: Any) -> ExecuteCall:
        request = ExecuteCall(
            session_id=self.conversation.session_id,
            turn=self.conversation.turn,
            head=self.heads[call.effect_id],
            call=call.call,
            tool_use_id=call.tool_use_id,
            tool=call.tool,
            digest=call.digest,
            catalogue=self.catalogue,
            saga=SagaRef(id=self.conversation.saga_id),
            authorization=Authorization(verdict="allow", rule="tier"),
            attempts=ATTEMPTS,
            trace={"traceparent": "00-11111111111111111111111111111111-2222222222222222-01"},
        )
        return request.model_copy(update=changes)

    async def run(self, call: PlannedCall, *, attempt: int = 1, **changes: Any) -> CallOutcome:
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, attempt=attempt)
        outcome: CallOutcome = await environment.run(self.executions.execute_call, self.request(call, **changes))
        return outcome

    async def effect(self, call: PlannedCall) -> asyncpg.Record:
        return await self.conversation.effect(call)

    def start(self, call: PlannedCall) -> tuple[ActivityEnvironment, asyncio.Task[CallOutcome]]:
        """Run in the background, for tests that cancel."""
        environment = ActivityEnvironment()
        work = environment.run(self.executions.execute_call, self.request(call))
        return environment, asyncio.ensure_future(work)


@pytest.fixture
async def bench(
    ledger: Ledger, owner: asyncpg.Connection, service: Service, tmp_path: Path
) -> AsyncIterator[Bench]:
    config = Config.model_validate({"agents": {"default": {"tools": [f"effect_tools:{name}" for name in TOOLS]}}})
    book = ToolBook(config, HERE)
    labels = {"service": service.url, "nobody": f"http://127.0.0.1:{free_port()}"}
    digest, body = catalogue_body(book.catalogue("default", Principal(requested_by="ana", labels=labels)))
    conversation = Conversation(ledger=ledger, owner=owner, session_id="trip-1")
    await conversation.open(catalogue=body, catalogue_digest=digest)
    reports: list[CallReport] = []
    executions = CallExecutions(
        ledger=ledger,
        book=book,
        resources=Resources(workspace=tmp_path, read_result=ledger.result),
        secrets={"DESK_TOKEN": "12345"},
        worker="worker-1",
        observe=reports.append,
    )
    yield Bench(conversation=conversation, executions=executions, book=book, catalogue=digest, reports=reports)
    await executions.close()
