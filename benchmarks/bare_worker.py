"""`python -m benchmarks.bare_worker`: a worker of the bare loop, with the settings of Holdfast's own.

The same client asks the model the same way, the same tool runs, and payloads go through the same converter.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

from temporalio import activity
from temporalio.plugin import SimplePlugin
from temporalio.worker import WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxRestrictions

from benchmarks import tools
from benchmarks.bare_contracts import Ask, Look, Said
from benchmarks.bare_loop import BareLoop
from holdfast.ids import canonical, digest
from holdfast_activities.messages_api.answer import Answer
from holdfast_activities.messages_api.client import open_client
from holdfast_activities.messages_api.reader import read_answer
from holdfast_activities.messages_api.request import TOOL_RESULTS_ARE_DATA, ModelRequest
from holdfast_workers.health import serve_health
from holdfast_workers.sandbox import sandboxed_runner
from holdfast_workers.settings import ModelSettings, TemporalSettings
from holdfast_workers.temporal import connect_temporal
from holdfast_workers.worker import build_worker

if TYPE_CHECKING:
    from holdfast_activities.messages_api.client import ModelClient

SCHEMA = {
    "additionalProperties": False,
    "properties": {"what": {"type": "string"}},
    "required": ["what"],
    "type": "object",
}


class BareActivities:
    def __init__(self, client: ModelClient) -> None:
        self._client = client

    @activity.defn
    async def ask_model(self, ask: Ask) -> Said:
        answer = Answer()
        await read_answer(
            self._client,
            request(ask),
            idempotency_key=activity.info().activity_id,
            into=answer,
            show=lambda piece: None,
        )
        asked = (block.content for block in answer.ordered() if block.type == "tool_use")
        calls = [Look(tool_use_id=block["id"], what=block["input"]["what"]) for block in asked]
        return Said(stop_reason=answer.stop_reason, call=calls[0] if calls else None)

    @activity.defn
    async def look(self, call: Look) -> str:
        return str(await tools.look.fn(call.what))


def request(ask: Ask) -> ModelRequest:
    """As many bytes as Holdfast sends in this turn, give or take an id."""
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": f"work {ask.job.turns}"}]}
    ]
    for turn in range(ask.turn):
        call = {"type": "tool_use", "id": f"toolu_{turn:06}", "name": "look", "input": {"what": f"room {turn}"}}
        result = {"type": "tool_result", "tool_use_id": f"toolu_{turn:06}", "content": f"room {turn} is fine"}
        messages += [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    params = {
        "model": "scripted",
        "max_tokens": 4096,
        "system": [{"type": "text", "text": f"You look at things.\n\n{TOOL_RESULTS_ARE_DATA}"}],
        "messages": messages,
        "tools": [{"description": "Look at something.", "input_schema": SCHEMA, "name": "look"}],
    }
    return ModelRequest(params=params, headers={}, digest=digest(canonical(str(ask.turn))))


def runner(existing: WorkflowRunner | None) -> WorkflowRunner:
    """Holdfast's, passing through the loop's own models as Holdfast passes through its."""
    return sandboxed_runner(SandboxRestrictions.default.with_passthrough_modules("benchmarks.bare_contracts"))


async def serve(*, temporal: str, model: str, task_queue: str, health_port: int) -> None:
    client = open_client(ModelSettings(provider="gateway", base_url=model))
    activities = BareActivities(client)
    plugin = SimplePlugin(
        "bare",
        workflows=[BareLoop],
        activities=[activities.ask_model, activities.look],
        workflow_runner=runner,
    )
    settings = TemporalSettings(address=temporal, namespace="default", embedded=True)
    worker = build_worker(await connect_temporal(settings, plugins=[plugin]), task_queue=task_queue)
    async with serve_health(health_port, lambda: worker.is_running):
        await worker.run()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.bare_worker", description=__doc__)
    for name in ("temporal", "model", "task-queue"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--health-port", type=int, required=True)
    asyncio.run(serve(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
