"""Histories of sagas, recorded and of today, replay in the production sandbox."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from holdfast.saga_contracts import unwind_id
from holdfast.states import SagaState
from holdfast_sagas import Registry
from holdfast_sagas.registry import serve
from holdfast_sagas.shipped import SHIPPED
from holdfast_workers.plugin import HoldfastPlugin
from tests.sagas.conftest import Sagas

HISTORIES = Path(__file__).parent / "histories"


def edits(path: str, *, last: str) -> dict[str, object]:
    return {
        "changes": [
            {"kind": "write", "path": path, "content": "one two"},
            {"kind": "edit", "path": path, "old": "one", "new": "1"},
            {"kind": "edit", "path": path, "old": last, "new": "2"},
        ]
    }


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "last", "outcome"),
    [
        ("a saga that commits", "two", SagaState.COMMITTED),
        ("a saga that is unwound", "three", SagaState.ABORTED),
    ],
)
async def test_what_ran_today_replays(
    sagas: Sagas, request: pytest.FixtureRequest, name: str, last: str, outcome: SagaState
) -> None:
    saga = await sagas.start("files.apply_changes", edits(f"{name}.md", last=last))
    assert (await sagas.result(saga)).outcome is outcome
    workflows = {name: saga} | ({f"{name}, its unwind": unwind_id(saga)} if outcome is SagaState.ABORTED else {})
    for what, workflow_id in workflows.items():
        history = await sagas.handle(workflow_id).fetch_history()
        await replay(history)
        if request.config.getoption("--record"):
            text = json.dumps(history.to_json_dict(), indent=1).replace(socket.gethostname(), "host")
            (HISTORIES / f"{what.replace(', ', '-').replace(' ', '_')}.json").write_text(text + "\n")


@pytest.mark.parametrize("path", sorted(HISTORIES.glob("*.json")), ids=lambda path: path.stem)
def test_a_recorded_history_replays(path: Path) -> None:
    recorded = json.loads(path.read_text())
    workflow_id = recorded["events"][0]["workflowExecutionStartedEventAttributes"]["workflowId"]
    asyncio.run(replay(WorkflowHistory.from_json(workflow_id, recorded)))


def test_there_are_recorded_histories() -> None:
    assert len(list(HISTORIES.glob("*.json"))) == 3


async def replay(history: WorkflowHistory) -> None:
    serve(Registry(SHIPPED))
    await Replayer(workflows=[], plugins=[HoldfastPlugin()]).replay_workflow(history)
