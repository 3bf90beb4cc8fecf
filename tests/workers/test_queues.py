"""Task queues of their own for model calls and tools: what runs where, who serves it, and with which limits."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from temporalio.worker import Worker

from holdfast.config import ConfigError
from holdfast.messages import Principal
from holdfast.queues import Queues
from holdfast.saga_contracts import unwind_id
from holdfast.states import SagaState
from holdfast_activities.messages_api.client import ModelSettingsInvalid
from holdfast_workers.capacity import ROLES, Role
from holdfast_workers.checks import check_workers
from holdfast_workers.client import Holdfast
from holdfast_workers.config_file import load_config, parse_config
from holdfast_workers.plugin import HoldfastPlugin
from holdfast_workers.serving import served_queues
from holdfast_workers.settings import ModelSettings, Settings, SettingsError
from holdfast_workers.stack.checks import Check
from holdfast_workers.temporal import connect_temporal
from holdfast_workers.worker import build_worker
from tests.conftest import QUICK, House, OpenHouse
from tests.waiting import until

WRITE = """
name: write
description: Writes a file, and says whose turn it is.
example: write
match: '^write'
turns:
  - calls: [{tool: write_file, input: {path: notes.txt, content: milk}}, {tool: share, input: {}}]
  - text: written
"""
ABORTED = """
name: abort
description: Writes a file, then gives up.
example: abort
match: '^abort'
turns:
  - calls: [{tool: write_file, input: {path: notes.txt, content: milk}}]
  - calls: [{tool: abort_request, input: {reason: changed my mind}}]
  - text: undone
"""
SLOW = """
name: slow
description: Takes its time.
example: slow
match: '^slow'
turns:
  - text: well, let me think about it
    delay_ms: 60
"""
SHARE = '''
from temporalio import activity


async def share() -> str:
    """Whose turn it is."""
    mine = activity.info().priority
    return f"priority {mine.priority_key} of {mine.fairness_key}"
'''


@pytest.fixture
def queues() -> Queues:
    own = secrets.token_hex(4)
    return Queues(model=f"model-{own}", tools=f"tools-{own}")


@pytest.fixture
def config(queues: Queues, tmp_path: Path) -> str:
    module = f"share_{secrets.token_hex(4)}"
    (tmp_path / f"{module}.py").write_text(SHARE)
    return f"""
[queues]
model = "{queues.model}"
tools = "{queues.tools}"

[tools.share]
run = "{module}:share"

[agents.default]
tools = ["write_file", "share"]
"""


async def queues_of(house: House, workflow_id: str) -> dict[str, str]:
    """Each activity of a history by its id, and the queue it waited on."""
    scheduled = [event.activity_task_scheduled_event_attributes for event in await house.history(workflow_id)]
    return {each.activity_id: each.task_queue.name for each in scheduled if each.activity_id}


async def test_model_calls_and_tools_run_on_their_own_queues(
    open_house: OpenHouse, config: str, queues: Queues
) -> None:
    async with open_house(WRITE, config=config) as house:
        session = await house.start("write")
        await house.until(session, "idle")
        assert await queues_of(house, session) == {
            "turn-1": queues.model,
            "turn-1.1.write_file": queues.tools,
            "turn-1.2.share": queues.tools,
            "turn-2": queues.model,
        }


async def test_priority_and_fairness_reach_the_tools_queue(open_house: OpenHouse, config: str) -> None:
    async with open_house(WRITE, config=config) as house:
        shared = house.settings.model_copy(update={"fairness": "user"})
        async with await Holdfast.connect(shared) as holdfast:
            started = await holdfast.start("write", principal=Principal(requested_by="ann"), priority=1)
        await house.until(started.session_id, "idle")
        assert "priority 1 of ann" in str(house.model.requests[-1].body)


async def test_an_unwind_runs_on_the_tools_queue(open_house: OpenHouse, config: str, queues: Queues) -> None:
    async with open_house(ABORTED, config=config) as house:
        session = await house.start("abort")
        await house.until(session, "idle")
        (saga,) = await house.rows("SELECT id FROM holdfast.saga WHERE state = 'ABORTED'")
        main = house.settings.task_queue
        assert await queues_of(house, unwind_id(saga["id"])) == {
            "begin": main,
            "compensate-1.1.write_file": queues.tools,
            "end": main,
        }


async def test_the_steps_of_a_saga_run_on_the_tools_queue(
    open_house: OpenHouse, config: str, queues: Queues
) -> None:
    async with open_house(config=config) as house:
        changes = {"changes": [{"kind": "write", "path": "notes.txt", "content": "milk"}]}
        await house.holdfast.start_saga(
            "files.apply_changes", changes, saga_id="notes", principal=Principal(requested_by="ann")
        )
        assert (await house.holdfast.saga_result("notes")).outcome is SagaState.COMMITTED
        found = await queues_of(house, "notes")
        main = house.settings.task_queue
        assert found.pop("open") == found.pop("end-committed") == main
        assert set(found.values()) == {queues.tools}


async def test_a_worker_for_tools_alone_needs_no_model_key(open_house: OpenHouse, config: str) -> None:
    async with open_house(WRITE, config=config, work=False) as house:
        unreachable = house.settings.model_copy(update={"model": ModelSettings(provider="gateway")})
        async with serving(unreachable, "tools"), serving(house.settings, "sessions", "model"):
            session = await house.start("write")
            await house.until(session, "idle")
        with pytest.raises(ModelSettingsInvalid):
            async with serving(unreachable, "model"):
                await asyncio.sleep(60)


@asynccontextmanager
async def serving(settings: Settings, *roles: Role) -> AsyncIterator[None]:
    """A worker of its own connection for these roles alone."""
    chosen = QUICK.model_copy(update={"serves": roles})
    plugin = HoldfastPlugin(settings, worker=chosen, sweep_every=None)
    client = await connect_temporal(settings.temporal, plugins=[plugin])
    queues = load_config(settings.config).queues.planned
    first = next(iter(served_queues(queues, roles, settings.task_queue).values()))
    async with build_worker(client, task_queue=first, settings=chosen):
        yield


async def test_a_limit_of_its_own_bounds_model_calls_at_the_same_time(open_house: OpenHouse, config: str) -> None:
    async with open_house(SLOW, config=config, worker=QUICK.model_copy(update={"model_calls": 2})) as house:
        sessions = await asyncio.gather(*(house.start("slow") for _ in range(5)))
        await asyncio.gather(*(house.until(session, "idle") for session in sessions))
        (most,) = await house.rows(
            """SELECT max(running) AS running FROM (
                SELECT (SELECT count(*) FROM holdfast.attempt o
                    WHERE o.claimed_at <= a.claimed_at AND o.ended_at > a.claimed_at) AS running
                FROM holdfast.attempt a) counted"""
        )
        assert most["running"] <= 2


async def test_a_worker_of_ones_own_with_the_plugin_serves_the_other_queues_too(
    open_house: OpenHouse, config: str, queues: Queues
) -> None:
    async with open_house(WRITE, config=config, work=False) as house:
        for _ in range(2):  # the companions of the first are gone when it is: the second has its own
            async with Worker(house.temporal, task_queue=house.settings.task_queue):
                session = await house.start("write")
                await house.until(session, "idle")
        assert {queues.model, queues.tools} == set((await queues_of(house, session)).values())


async def test_a_worker_that_cannot_serve_what_it_is_told_says_so_and_ends(open_house: OpenHouse) -> None:
    async with open_house(config='[queues]\nmodel = "desk"\n', work=False) as house:
        with pytest.raises(SettingsError, match="`desk`, which is the sessions' own queue"):
            async with Worker(house.temporal, task_queue="desk"):
                await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("named", "serves", "polled"),
    [
        (Queues(), ROLES, ["q"]),
        (Queues(model="m"), ROLES, ["q", "m"]),
        (Queues(model="m", tools="t"), ("tools",), ["t"]),
        (Queues(model="m", tools="t"), ("tools", "model"), ["m", "t"]),
        (Queues(model="m", tools="t"), ("sessions",), ["q"]),
        (Queues(model="m"), ("sessions", "tools"), ["q"]),
    ],
)
def test_a_process_polls_the_queues_of_what_it_serves(
    named: Queues, serves: tuple[Role, ...], polled: list[str]
) -> None:
    assert list(served_queues(named, serves, "q").values()) == polled


@pytest.mark.parametrize(
    ("named", "serves", "says"),
    [
        (Queues(), ("tools",), "names no queue for `tools`, so that whoever serves sessions runs it"),
        (Queues(model="m"), ("model", "tools"), "names no queue for `tools`, so that whoever"),
        (Queues(), ("sessions",), "without `model`, and holdfast.toml names no queue for it"),
        (Queues(model="m"), ("sessions",), "without `tools`, and holdfast.toml names no queue for it"),
        (Queues(tools="q"), ROLES, "which is the sessions' own queue"),
    ],
)
def test_what_nobody_would_serve_is_refused(named: Queues, serves: tuple[Role, ...], says: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(says)):
        served_queues(named, serves, "q")


def test_two_queues_are_two() -> None:
    with pytest.raises(ConfigError, match="both `work`"):
        parse_config('[queues]\nmodel = "work"\ntools = "work"\n')


async def test_the_doctor_names_a_queue_that_nobody_polls(
    open_house: OpenHouse, config: str, queues: Queues
) -> None:
    async with open_house(config=config, work=False) as house, serving(house.settings, "sessions", "model"):
        found = await until(lambda: _found(house.settings, 1), "the polls of two queues")
        assert f"nobody polls `{queues.tools}`, where tools and undos wait" in found.found
        assert "worker start --serve tools" in str(found.fix)
        async with serving(house.settings, "tools"):
            await until(lambda: _found(house.settings, 0), "the polls of all three")


async def _found(settings: Settings, unserved: int) -> Check | None:
    (check,) = await check_workers(settings)
    return check if check.found.count("nobody polls") == unserved else None
