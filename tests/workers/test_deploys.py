"""A build that lacks the code of an open saga does not serve, unless a person said so."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from temporalio.service import RPCError
from temporalio.worker import Worker

from holdfast.facts import Kind
from holdfast_activities.tools.book import ToolBook
from holdfast_ledger.deploys import waive_build
from holdfast_sagas import Registry
from holdfast_workers.config_file import load_config
from holdfast_workers.deploys import BuildLacksCode, Missing, missing_code
from holdfast_workers.plugin import HoldfastPlugin
from holdfast_workers.sweeping import schedule_id
from holdfast_workers.temporal import connect_temporal
from holdfast_workers.worker import build_worker
from tests.conftest import House
from tests.waiting import until

TOOLS = '''
from holdfast import Idempotent, ToolContext, tool


@tool(tier="irreversible", recovery=Idempotent("24h"))
async def give_back(ctx: ToolContext, what: str) -> str:
    """Give something back."""
    return what


@tool(tier="reversible", recovery=Idempotent("24h"), undo=give_back, undo_args=lambda args, result: args)
async def take(ctx: ToolContext, what: str) -> str:
    """Take something."""
    return what


@tool(tier="irreversible", recovery=Idempotent("24h"))
async def pay(ctx: ToolContext, cents: int) -> str:
    """Pay."""
    return "paid"
'''
CONFIG = '[agents.default]\ntools = ["{module}:take", "{module}:pay"]\n'
TAKE_AND_WAIT = """
name: take
description: Take, then ask to pay.
example: take
match: take
turns:
  - calls: [{tool: take, input: {what: a key}}]
  - calls: [{tool: pay, input: {cents: 5}}]
  - text: done
"""
Deploy = Callable[[str], None]


@pytest.fixture
def module(tmp_path: Path) -> str:
    """A module of this test's own: two builds of it are two versions of one file."""
    name = f"deployed_{abs(hash(tmp_path)):x}"
    (tmp_path / f"{name}.py").write_text(TOOLS)
    return name


@pytest.fixture
def deploy(tmp_path: Path, module: str) -> Deploy:
    """Put another build in place of the one that serves."""

    def put(source: str) -> None:
        (tmp_path / f"{module}.py").write_text(source)
        # Bytecode of the other build would count: builds of one second and one length look the same to Python.
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        sys.modules.pop(module, None)

    return put


async def waiting(house: House) -> str:
    session = await house.start("take a key")
    await house.until_asked(session)
    (row,) = await house.rows("SELECT id FROM holdfast.saga")
    assert row["id"].startswith(session)
    return str(row["id"])


async def another_worker(house: House) -> Worker:
    """Of a client of its own: a process has one worker for a queue and client."""
    client = await connect_temporal(house.settings.temporal, plugins=[HoldfastPlugin(house.settings)])
    return build_worker(client, task_queue=house.settings.task_queue)


async def missing(house: House) -> tuple[Missing, ...]:
    book = ToolBook(load_config(house.settings.config), house.settings.home)
    return await missing_code(house.holdfast.ledger, book, Registry(), house.settings.task_queue)


WITHOUT = TOOLS.replace("give_back", "hand_back")
CHANGED = TOOLS.replace(
    '@tool(tier="irreversible", recovery=Idempotent("24h"))',
    '@tool(version="2", tier="irreversible", recovery=Idempotent("24h"))',
)


@pytest.mark.parametrize(
    ("build", "why"), [(WITHOUT, "has no `give_back`"), (CHANGED, "here it is version 2")], ids=["gone", "changed"]
)
async def test_an_open_saga_whose_undo_is_not_here_is_named_until_it_is_back(
    open_house, module: str, deploy: Deploy, build: str, why: str
) -> None:
    async with open_house(TAKE_AND_WAIT, config=CONFIG.format(module=module)) as house:
        saga = await waiting(house)
        assert await missing(house) == ()
        deploy(build)
        (found,) = await missing(house)
        assert (found.saga_id, found.code) == (saga, "the undo `give_back` version 1")
        assert why in found.why
        deploy(TOOLS)
        assert await missing(house) == ()


async def test_a_worker_of_such_a_build_refuses_to_serve_until_each_saga_is_waived(
    open_house, module: str, deploy: Deploy
) -> None:
    async with open_house(TAKE_AND_WAIT, config=CONFIG.format(module=module)) as house:
        saga = await waiting(house)
        deploy(WITHOUT)
        with pytest.raises(BuildLacksCode, match=f"saga {saga} .* needs the undo `give_back` version 1"):
            await (await another_worker(house)).run()
        with pytest.raises(RPCError, match="not found"):  # whoever may not serve has nothing swept either
            await house.temporal.get_schedule_handle(schedule_id(house.settings.task_queue)).describe()

        ledger = house.holdfast.ledger
        session = saga.partition("/")[0]
        for _ in range(2):
            await waive_build(ledger.database, ledger.vault, session, saga, by="ann", reason="a hot-fix")
        worker = await another_worker(house)
        async with worker:
            await until(lambda: worker.is_running, "the worker to serve")
        told = [entry for entry in await house.entries(session) if entry["kind"] == Kind.SAGA_BUILD_WAIVED]
        assert [entry["actor"] for entry in told] == ["ann"]


async def test_what_was_committed_or_belongs_to_another_queue_asks_nothing_of_a_build(
    open_house, module: str, deploy: Deploy
) -> None:
    async with open_house(TAKE_AND_WAIT, config=CONFIG.format(module=module)) as house:
        await waiting(house)
        deploy(WITHOUT)
        book = ToolBook(load_config(house.settings.config), house.settings.home)
        assert await missing_code(house.holdfast.ledger, book, Registry(), "another queue") == ()
        deploy(TOOLS)
        approval = await house.until_asked(house.started[0])
        await house.holdfast.decide(
            house.started[0], call=approval["call"], digest=approval["digest"], approve=True, by="ann"
        )
        await house.until(house.started[0], "idle")
        deploy(WITHOUT)
        assert await missing(house) == ()
