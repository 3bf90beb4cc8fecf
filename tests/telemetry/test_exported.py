"""One session through the real command and worker: what a collector gets to see, and what it never does."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from holdfast.states import SessionStatus
from holdfast_ledger.standing import read_standing
from holdfast_ledger.store import Ledger
from holdfast_workers.scripted_model import Received, running
from holdfast_workers.stack.servers import ServerAddresses
from holdfast_workers.telemetry import names
from tests.conftest import APP_PASSWORD, cloned
from tests.waiting import until

from .collector import Collector, collecting

HOLDFAST = Path(sys.executable).with_name("holdfast")
CALLER = "0af7651916cd43dd8448eb211c80319c"
"""Trace id of whoever runs the command."""
PROMPT, ARGUMENT, RESULT, REFUSAL, ANSWER, KEY = (f"hush-{secrets.token_hex(6)}" for _ in range(6))

CONFIG = """
[agents.default]
model = "claude-haiku-4-5"
tools = ["desk:order", "desk:refuse"]

[agents.default.policy]
allow = ["order"]
"""
TOOLS = f'''
from holdfast import Idempotent, Never, ToolContext, ToolRefused, tool


@tool(tier="irreversible", recovery=Idempotent("24h"), undo=Never("it is sent"))
async def order(ctx: ToolContext, url: str, item: str) -> str:
    """Order an item."""
    response = await ctx.http.post(url, json={{"item": item}})
    return response.text


@tool
def refuse(item: str) -> str:
    """Refuse an item."""
    raise ToolRefused("{REFUSAL}")
'''
SCENARIO = f"""
name: order
description: Order something.
example: order it
match: order it
turns:
  - calls: [{{tool: order, input: {{url: "SHOP", item: "{ARGUMENT}"}}}}]
    faults: [{{kind: http_error, status: 529, times: 1}}]
    model: claude-haiku-4-5-20251001
  - calls: [{{tool: refuse, input: {{item: "{ARGUMENT}"}}}}]
  - text: "{ANSWER}"
"""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was exported and sent while one session ran from start to end."""

    collector: Collector
    shop: list[dict[str, str]]
    """Headers of the tool's requests."""
    model: list[Received]
    log: list[dict[str, Any]]
    """The worker's log lines."""
    raw_log: str


@pytest.fixture(scope="module")
async def seen(
    servers: ServerAddresses, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Seen]:
    home = tmp_path_factory.mktemp("exported")
    with collecting() as collector, shop() as (shop_url, shop_headers):
        async with (
            cloned(servers, template) as database,
            running(SCENARIO.replace("SHOP", shop_url), shipped=False) as model,
        ):
            (home / "holdfast.toml").write_text(CONFIG)
            (home / "desk.py").write_text(TOOLS)
            environ = {
                "PATH": os.environ["PATH"],
                "XDG_RUNTIME_DIR": str(home),
                "HOLDFAST_HOME": str(home),
                "HOLDFAST_CONFIG": str(home / "holdfast.toml"),
                "HOLDFAST_DSN": database.dsn,
                "HOLDFAST_TASK_QUEUE": f"exported-{secrets.token_hex(4)}",
                "ANTHROPIC_BASE_URL": model.url,
                "ANTHROPIC_API_KEY": KEY,
                "TEMPORAL_ADDRESS": servers.temporal_address,
                "TEMPORAL_NAMESPACE": servers.namespace,
                "TEMPORAL_CONFIG_FILE": os.devnull,
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                "OTEL_METRIC_EXPORT_INTERVAL": "300",
                "HOLDFAST_TEMPORAL_METRICS": "true",
                # The SDK of the model's client must not be talked into exporting what was said.
                "ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE": "content",
            }
            log = await one_session(environ, home)
            collector.until(lambda: names.CALL_COUNT in collector.metrics())
        lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        yield Seen(collector=collector, shop=shop_headers, model=model.requests, log=lines, raw_log=log)


async def one_session(environ: dict[str, str], home: Path) -> str:
    """Start a session by the command, with one worker; returns what the worker logged."""
    with (home / "worker.log").open("w") as log:
        worker = await asyncio.create_subprocess_exec(HOLDFAST, "worker", "start", env=environ, stderr=log)
    try:
        command = await asyncio.create_subprocess_exec(
            HOLDFAST,
            "start",
            "--quiet",
            f"order it, {PROMPT}",
            env=environ | {"TRACEPARENT": f"00-{CALLER}-b7ad6b7169203331-01"},
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await asyncio.wait_for(command.communicate(), 30)
        await until_idle(environ["HOLDFAST_DSN"], printed.decode().strip(), worker)
    finally:
        if worker.returncode is None:
            worker.terminate()
        await asyncio.wait_for(worker.wait(), 20)
    return (home / "worker.log").read_text()


async def until_idle(dsn: str, session_id: str, worker: asyncio.subprocess.Process) -> None:
    """Wait until the worker's session has answered."""
    ledger = await Ledger.connect(dsn, max_size=1)
    try:

        async def idle() -> bool:
            assert worker.returncode is None, "the worker ended; its log says why"
            return (await read_standing(ledger.database)).sessions[SessionStatus.IDLE] > 0

        await until(idle, f"{session_id} to be idle", within=40)
    finally:
        await ledger.close()


@contextmanager
def shop() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A service that a tool calls; keeps the headers of each request."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            seen.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("content-length", str(len(RESULT)))
            self.end_headers()
            self.wfile.write(RESULT.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/orders", seen
        finally:
            server.shutdown()
            thread.join()


def test_one_trace_leads_from_the_caller_through_command_turns_and_calls_to_the_tools_request(seen):
    spans = seen.collector.spans()
    assert {span.trace for span in spans} == {CALLER}
    command = seen.collector.span("holdfast start")
    call = seen.collector.span("execute_tool order")
    assert {span.parent for span in spans if span.name == "chat claude-haiku-4-5"} == {command.id}
    assert call.parent == command.id
    [headers] = seen.shop
    assert headers["traceparent"] == f"00-{CALLER}-{call.id}-01"


def test_the_models_own_client_joins_the_trace_and_sends_it_on(seen):
    chats = {span.id for span in seen.collector.spans() if span.name == "chat claude-haiku-4-5"}
    requests = [span for span in seen.collector.spans() if span.scope == "com.anthropic.sdk.python"]
    assert len(requests) == len(chats) == 4
    assert {span.parent for span in requests} == chats
    assert {request.headers["traceparent"].split("-")[1] for request in seen.model} == {CALLER}


def test_a_turn_says_who_answered_and_what_it_cost_by_the_genai_conventions(seen):
    answered = [span for span in seen.collector.spans() if names.FINISH_REASONS in span.attributes]
    turn = next(span for span in answered if span.attributes[names.TURN] == 1)
    conversation = turn.attributes.pop(names.CONVERSATION)
    assert {span.attributes.get(names.CONVERSATION, conversation) for span in answered} == {conversation}
    assert turn.attributes["gen_ai.operation.name"] == "chat"
    assert turn.attributes["gen_ai.provider.name"] == "anthropic"
    assert turn.attributes["gen_ai.request.model"] == "claude-haiku-4-5"
    assert turn.attributes["gen_ai.response.model"] == "claude-haiku-4-5-20251001"
    assert turn.attributes["gen_ai.response.finish_reasons"] == ["tool_use"]
    assert turn.attributes["gen_ai.usage.input_tokens"] > 0
    assert turn.attributes["gen_ai.usage.output_tokens"] > 0
    assert turn.attributes[names.ATTEMPT] == 2
    assert turn.attributes[names.COST] > 0
    assert turn.kind == 3  # a client's


def test_a_failed_attempt_is_a_span_of_its_own_with_the_errors_type(seen):
    failed = [span for span in seen.collector.spans() if span.attributes.get(names.ATTEMPT_OUTCOME) == "transient"]
    assert [span.attributes[names.ATTEMPT] for span in failed] == [1]
    assert failed[0].attributes["error.type"] == "overloaded_error"
    assert failed[0].failed


def test_a_call_says_which_tool_ran_at_which_risk_and_how_it_ended(seen):
    call = seen.collector.span("execute_tool order")
    assert call.attributes["gen_ai.operation.name"] == "execute_tool"
    assert call.attributes["gen_ai.tool.name"] == "order"
    assert call.attributes["gen_ai.tool.call.id"]
    assert call.attributes["gen_ai.tool.type"] == "function"
    assert call.attributes[names.TIER] == "irreversible"
    assert call.attributes[names.OUTCOME] == "ok"
    assert call.attributes[names.EFFECT_ID] == seen.shop[0]["idempotency-key"]
    refused = seen.collector.span("execute_tool refuse")
    assert refused.attributes[names.OUTCOME] == "error"
    assert refused.attributes["error.type"] == "ToolRefused"
    assert refused.failed
    assert not call.failed


def test_spans_carry_only_attributes_that_are_listed(seen):
    listed = {name.partition(" ")[0]: set(attributes) for name, attributes in names.SPAN_ATTRIBUTES.items()}
    ours = [span for span in seen.collector.spans() if span.scope == names.SCOPE]
    assert {span.service for span in ours} == {"holdfast", "holdfast-worker"}
    for span in ours:
        assert set(span.attributes) <= listed[span.name.partition(" ")[0]], span.name


def test_metrics_count_the_calls_of_the_session_by_tool_and_outcome(seen):
    metrics = seen.collector.metrics()
    _, calls = metrics[names.CALL_COUNT]
    assert {(one.attributes[names.TOOL_NAME], one.attributes[names.OUTCOME]): one.value for one in calls} == {
        ("order", "ok"): 1,
        ("refuse", "error"): 1,
    }
    _, turns = metrics[names.TURN_ATTEMPTS]
    assert {(one.attributes[names.ATTEMPT_OUTCOME], one.attributes[names.RETRY]): one.value for one in turns} == {
        ("transient", False): 1,
        ("done", True): 1,
        ("done", False): 2,
    }
    sessions = {one.attributes[names.SESSION_STATUS]: one.value for one in metrics[names.SESSIONS][1]}
    assert sessions == {"running": 0, "idle": 1, "waiting": 0, "held": 0, "closing": 0}
    _, latency = metrics[names.MODEL_LATENCY]
    assert sum(one.count for one in latency) == 4


def test_exported_metrics_have_the_listed_units_and_attributes(seen):
    metrics = {name: metric for name, metric in seen.collector.metrics().items() if name in names.METRICS}
    assert set(metrics) == set(names.METRICS) - {names.MODEL_UNPRICED}
    for name, (unit, points) in metrics.items():
        assert unit == names.METRICS[name][0]
        assert all(set(point.attributes) <= set(names.METRICS[name][1]) for point in points), name


def test_temporals_own_metrics_go_the_same_way_when_asked_for(seen):
    assert any(name.startswith("temporal_") for name in seen.collector.metrics())


def test_nothing_that_was_said_is_in_any_exported_byte_nor_in_the_log(seen):
    exported = b"".join(body for _, body in seen.collector.bodies) + seen.raw_log.encode()
    assert CALLER.encode() in seen.raw_log.encode()
    for secret in (PROMPT, ARGUMENT, RESULT, REFUSAL, ANSWER, KEY, APP_PASSWORD):
        assert secret.encode() not in exported


def test_log_lines_lead_to_the_trace(seen):
    turns = [line for line in seen.log if line["message"].startswith("model turn")]
    assert len(turns) == 4
    assert {line["trace_id"] for line in turns} == {CALLER}
    calls = [line for line in seen.log if line["message"].startswith("call ")]
    assert {(line["tool"], line["status"]) for line in calls} == {("order", "ok"), ("refuse", "error")}
    assert all(line["argument_keys"] for line in calls)
