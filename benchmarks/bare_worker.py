"""`python -m benchmarks.bare_worker`: a worker of the bare loop, with the settings of Holdfast's own.

The same client asks the model the same way, the same tool runs, and payloads go through the same converter.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from temporalio import activity
from temporalio.plugin import SimplePlugin
from temporalio.worker import Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxRestrictions

from benchmarks import tools
from benchmarks.bare_contracts import Ask, Look, Said
from benchmarks.bare_loop import BareLoop
from benchmarks.model import CALL_ID, CALLED
from holdfast.ids import canonical, digest
from holdfast_activities.messages_api.answer import Answer
from holdfast_activities.messages_api.client import open_client
from holdfast_activities.messages_api.reader import read_answer
from holdfast_activities.messages_api.request import TOOL_RESULTS_ARE_DATA, ModelRequest
from holdfast_workers.collecting import start_left_out
from holdfast_workers.converter import data_converter
from holdfast_workers.health import serve_health
from holdfast_workers.sandbox import for_converter, sandboxed_runner
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
        {"role": "user", "content": [{"type": "text", "text": f"{ask.job.verb} {ask.job.turns}"}]}
    ]
    name, noun = CALLED[ask.job.verb]
    for turn in range(ask.turn):
        id, what = CALL_ID.format(position=turn), f"{noun} {turn}"
        call = {"type": "tool_use", "id": id, "name": name, "input": {"what": what}}
        result = {"type": "tool_result", "tool_use_id": id, "content": tools.seen(what)}
        messages += [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    params = {
        "model": "scripted",
        "max_tokens": 4096,
        "system": [{"type": "text", "text": f"You look at things.\n\n{TOOL_RESULTS_ARE_DATA}"}],
        "messages": messages,
        "tools": [{"description": "Look at something.", "input_schema": SCHEMA, "name": "look"}],
    }
    nothing = digest(canonical(str(ask.turn)))
    return ModelRequest(params=params, headers={}, digest=nothing, known=0, new=0, room_above=None)


def runner(existing: WorkflowRunner | None) -> WorkflowRunner:
    """Holdfast's own, which is quicker than the SDK's, passing through the loop as Holdfast passes through its."""
    sandbox = sandboxed_runner(SandboxRestrictions.default.with_passthrough_modules("benchmarks"))
    return for_converter(sandbox, data_converter)


@asynccontextmanager
async def bare_worker(temporal: TemporalSettings, *, model: str | None, task_queue: str) -> AsyncIterator[Worker]:
    """A worker that is still to be run."""
    client = open_client(ModelSettings(provider="gateway", base_url=model))
    activities = BareActivities(client)
    plugin = SimplePlugin(
        "bare",
        workflows=[BareLoop],
        activities=[activities.ask_model, activities.look],
        workflow_runner=runner,
    )
    try:
        connection = await connect_temporal(temporal, plugins=[plugin, start_left_out()])
        yield build_worker(connection, task_queue=task_queue)
    finally:
        await client.close()


async def serve(*, temporal: str, model: str, task_queue: str, health_port: int) -> None:
    settings = TemporalSettings(address=temporal, namespace="default", embedded=True)
    async with (
        bare_worker(settings, model=model, task_queue=task_queue) as worker,
        serve_health(health_port, lambda: worker.is_running),
    ):
        await worker.run()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.bare_worker", description=__doc__)
    for name in ("temporal", "model", "task-queue"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--health-port", type=int, required=True)
    asyncio.run(serve(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
