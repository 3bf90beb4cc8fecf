"""`holdfast demo` as a newcomer runs it: on a fresh home, unattended, twice, with the usual ports taken."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

from holdfast_workers.demo.parts import DESK, NAME, Parts
from holdfast_workers.stack.home import Home
from holdfast_workers.stack.processes import ProcessIdentity
from holdfast_workers.stack.runtime import Runtime, read_runtime

pytestmark = pytest.mark.timeout(150)

ROOT = Path(__file__).parents[2]
USUAL_PORTS = (7233, 8233, 8085)
SET_UP_WITHIN_S = 90


@dataclass(frozen=True, kw_only=True)
class Run:
    """One `holdfast demo --json`: how it ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        return dict(json.loads(self.out.splitlines()[-1]))


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What others say of a run, asked while its stack was still up."""

    run: Run
    history: tuple[HistoryEvent, ...]
    services: dict[str, Any]
    verified: dict[str, Any]
    ui_status: int
    processes: tuple[ProcessIdentity, ...]


def holdfast(home: Path, *arguments: str) -> Run:
    return command(home, Path(sys.executable).with_name("holdfast"), *arguments)


def command(home: Path, *words: str | Path) -> Run:
    """Run it as somebody would whose environment says nothing of Holdfast, Temporal, Postgres or a model."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HOLDFAST_", "TEMPORAL_"))}
    foreign = [name for name in kept if name.startswith(("ANTHROPIC_", "PG", "XDG_RUNTIME_DIR"))]
    env = {name: value for name, value in kept.items() if name not in foreign}
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=SET_UP_WITHIN_S,
        cwd=home.parent,
        env={**env, "HOLDFAST_HOME": str(home)},
    )
    return Run(code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("a path with blanks") / "home"
    yield home
    holdfast(home, "down")


@pytest.fixture(scope="module")
def usual_ports_taken() -> Iterator[None]:
    with ExitStack() as taken:
        for port in USUAL_PORTS:
            listener = taken.enter_context(socket.socket())
            try:
                listener.bind(("127.0.0.1", port))
                listener.listen()
            except OSError:
                pass  # somebody else takes it already
        yield


@pytest.fixture(scope="module")
async def first(home: Path, usual_ports_taken: None) -> Seen:
    """The first run on a fresh home, and what can be asked as long as its stack is up."""
    return await seen(home, holdfast(home, "demo", "--json"))


async def seen(home: Path, run: Run) -> Seen:
    assert run.code == 0, run.err
    stack, beside = runtimes(home)
    client = await Client.connect(stack.addresses.temporal, namespace=stack.addresses.namespace)
    handle = client.get_workflow_handle(run.report["session_id"])
    return Seen(
        run=run,
        history=tuple([event async for event in handle.fetch_history_events()]),
        services=json.loads(fetch(beside.addresses.services[DESK] + "/_log/summary")[1]),
        verified=json.loads(holdfast(home, "ledger", "verify", "--json").out),
        ui_status=fetch(run.report["ui_url"])[0],
        processes=(stack.supervisor, *stack.processes, beside.supervisor, *beside.processes),
    )


@pytest.fixture(scope="module")
async def failing(first: Seen, home: Path) -> Seen:
    """The run in which the payment fails, on the same stack."""
    return await seen(home, holdfast(home, "demo", "--fail-payment", "--json"))


@pytest.fixture(scope="module")
def second(failing: Seen, home: Path) -> Run:
    """Once more, right after these, as `make demo`; and then everything is stopped."""
    return command(home, "make", "--silent", "--directory", ROOT, "demo", "ARGS=--json --stop")


def runtimes(home: Path) -> tuple[Runtime, Runtime]:
    stack, beside = read_runtime(home), read_runtime(Home(home).companion(NAME).path)
    assert stack is not None
    assert beside is not None
    return stack, beside


def fetch(url: str) -> tuple[int, bytes]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as response:
        return response.status, response.read()


def test_the_demo_ends_with_one_line_of_json_that_says_what_held(first: Seen) -> None:
    assert len(first.run.out.splitlines()) == 1
    said = first.run.report
    assert said["session_id"] in said["ui_url"]
    assert said["ledger"]["entries"] > 30
    changing = {name: said[name] for name in ("session_id", "ui_url", "ledger")}
    assert said == {
        **changing,
        "model": "scripted",
        "status": "completed",
        "turns": 7,
        "calls": 8,
        "approvals": 1,
        "worker_kills": 1,
        "effects": {"done": 4, "duplicates": 0, "unknown": 0},
        "saga": {"outcome": "COMMITTED"},
        "ledger": {"entries": said["ledger"]["entries"], "verified": True},
        "cost_usd": 0.0,
    }


def test_the_first_line_says_which_model_decides(first: Seen) -> None:
    assert "scripted model decides, not Claude" in first.run.err.splitlines()[0]


def test_the_services_carried_each_effect_out_once_though_a_worker_was_killed_in_one(first: Seen) -> None:
    kinds = {kind: counts for kind, counts in first.services["kinds"].items() if not counts["read"]}
    assert kinds.keys() == {"hold_seat", "change_booking", "refund", "send_mail"}
    assert {kind: counts["carried_out"] for kind, counts in kinds.items()} == dict.fromkeys(kinds, 1)
    assert kinds["hold_seat"]["replayed"] == 1  # the answer that the killed worker never read
    assert first.services["duplicates"] == []


def test_the_refund_was_released_by_a_signal(first: Seen) -> None:
    refund = next(event for event in scheduled(first) if activity_id(event).endswith("refund"))
    before = [event for event in first.history if event.event_id < refund.event_id]
    assert [
        event.workflow_execution_signaled_event_attributes.signal_name
        for event in before
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    ] == ["approve"]


def test_every_activity_carries_its_retry_policy_and_timeouts(first: Seen) -> None:
    assert scheduled(first)
    for event in scheduled(first):
        options = event.activity_task_scheduled_event_attributes
        assert options.retry_policy.initial_interval.ToMilliseconds() > 0
        assert options.retry_policy.backoff_coefficient >= 1
        assert options.start_to_close_timeout.ToSeconds() > 0
        assert options.heartbeat_timeout.ToSeconds() > 0


def test_a_turn_takes_one_activity_for_the_model_and_one_for_each_call(first: Seen) -> None:
    said = first.run.report
    assert len(scheduled(first)) == said["turns"] + said["calls"] + 1  # to close


def test_the_ledger_of_the_demo_verifies(first: Seen) -> None:
    assert first.verified["ok"]
    assert first.verified["entries"] == first.run.report["ledger"]["entries"]


def test_the_address_in_the_ui_answers(first: Seen) -> None:
    assert first.ui_status == 200


def test_where_the_payment_fails_the_saga_is_aborted_and_each_step_comes_back(failing: Seen) -> None:
    said = failing.run.report
    assert said["saga"] == {"outcome": "ABORTED"}
    assert said["effects"] == {"done": 7, "duplicates": 0, "unknown": 0}
    assert (said["status"], said["approvals"], said["worker_kills"]) == ("completed", 1, 0)
    assert failing.verified["bad"] == []


def test_where_the_payment_fails_the_services_undid_what_they_did_and_paid_nothing(
    first: Seen, failing: Seen
) -> None:
    before, after = carried_out(first), carried_out(failing)
    changed = ("hold_seat", "change_booking", "move_hotel")
    undone = ("release_seat", "change_booking_back", "move_hotel_back")
    assert {kind: count - before.get(kind, 0) for kind, count in after.items()} == {
        **dict.fromkeys((*changed, *undone, "send_mail"), 1),
        "refund": 0,
    }


def test_where_the_payment_fails_the_session_started_its_unwind_as_a_child(failing: Seen) -> None:
    started = [event.child_workflow_execution_started_event_attributes for event in failing.history]
    (unwind,) = [one.workflow_execution.workflow_id for one in started if one.workflow_execution.workflow_id]
    assert unwind.startswith(failing.run.report["session_id"] + "/unwind/1-")


def test_it_works_twice_in_a_row_and_stop_leaves_nothing_behind(first: Seen, second: Run, home: Path) -> None:
    assert second.code == 0, second.err
    assert second.report["session_id"] != first.run.report["session_id"]
    assert second.report["effects"] == {"done": 4, "duplicates": 0, "unknown": 0}
    assert [one.name for one in first.processes if one.process()] == []
    assert Parts(home).worker() is None
    assert read_runtime(home) is None


def carried_out(seen: Seen) -> dict[str, int]:
    """By kind, since the services' log began."""
    return {kind: counts["carried_out"] for kind, counts in seen.services["kinds"].items() if not counts["read"]}


def scheduled(seen: Seen) -> list[HistoryEvent]:
    kind = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    return [event for event in seen.history if event.event_type == kind]


def activity_id(event: HistoryEvent) -> str:
    return event.activity_task_scheduled_event_attributes.activity_id
