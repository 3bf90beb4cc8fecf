"""Doubt that people settle and probes settle by themselves, and tools that are stopped: through the command."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import pytest

from holdfast_activities import probe_call
from tests.cli.conftest import Cli, point_at
from tests.waiting import until

TOOLS = '''
import os
from pathlib import Path
from typing_extensions import TypedDict

from holdfast import Inconclusive, Landed, Never, Probe, ToolContext, tool


class Receipt(TypedDict):
    receipt: str
    cents: int


def note(line):
    with Path(os.environ["DESK_LOG"]).open("a") as log:
        log.write(line + "\\n")


async def ask(ctx: ToolContext, cents: int) -> Landed | Inconclusive:
    said = Path(os.environ["DESK_SAYS"])
    return Landed({"receipt": said.read_text(), "cents": cents}) if said.exists() else Inconclusive("closed")


@tool(tier="irreversible", undo=Never("money is gone"))
async def wire(ctx: ToolContext, cents: int) -> Receipt:
    """Send money."""
    note(f"wire {cents} {ctx.idempotency_key}")
    if Path(os.environ["DESK_SAYS"]).exists():
        return {"receipt": "W-1", "cents": cents}
    raise RuntimeError("the connection was lost")


@tool(tier="irreversible", undo=Never("money is gone"), recovery=Probe(ask), attempts=1)
async def order(ctx: ToolContext, cents: int) -> Receipt:
    """Order something."""
    note(f"order {cents}")
    raise RuntimeError("the connection was lost")


@tool(tier="irreversible", undo=Never("money is gone"), semantic_key=lambda cents: f"{cents} cents")
async def pay(cents: int) -> str:
    """Pay."""
    note(f"pay {cents}")
    return "paid"
'''

CONFIG = """
[agents.default]
tools = ["desk_tools:wire", "desk_tools:order", "desk_tools:pay"]

[agents.default.policy]
allow = ["wire", "order", "pay"]
"""


def scenario(tool: str, *cents: int) -> str:
    calls = "".join(f"\n      - {{tool: {tool}, input: {{cents: {each}}}}}" for each in cents)
    return f"""
name: {tool}
description: {tool}.
example: {tool}
match: '^{tool}'
turns:
  - calls: {calls}
  - text: "{{{{ outcome.{tool} }}}}: {{{{ reason.{tool} or results.{tool} }}}}"
"""


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """The desk's directory; `says` in it opens the desk."""
    (tmp_path / "desk_tools.py").write_text(TOOLS)
    monkeypatch.setenv("DESK_LOG", str(tmp_path / "log"))  # the module is imported once for all tests
    monkeypatch.setenv("DESK_SAYS", str(tmp_path / "says"))
    return tmp_path


@pytest.fixture
def settle(open_house, desk, monkeypatch, capsys):
    """`async with settle(SCENARIO) as cli`."""

    @asynccontextmanager
    async def opened(*scenarios, config=CONFIG):
        async with open_house(*scenarios, config=config) as house:
            point_at(house, desk, monkeypatch)
            yield Cli(house, capsys)

    return opened


async def held(cli: Cli, message: str) -> str:
    done = await cli("run", message, "--until", "waiting", "-o", "json")
    assert done.code == 6, done.err
    return done.json["session_id"]


async def test_an_outage_is_settled_in_bulk_by_tool_and_time(settle):
    async with settle(scenario("wire", 100, 200, 300)) as cli:
        session_id = await held(cli, "wire")
        doubts = "SELECT 1 FROM holdfast.effect WHERE state = 'UNKNOWN' HAVING count(*) = 3"
        await until(lambda: cli.house.rows(doubts), "all three to be in doubt")
        flags = ("--tool", "wire", "--since", "1h", "--did-not-happen", "--reason", "the line was down")
        asked = await cli("effect", "resolve", *flags)
        assert (asked.code, "3 effects of 1 session " in asked.err, "--yes" in asked.err) == (2, True, True)
        assert len((await cli("effect", "list", "--unknown", "--json")).json) == 3

        done = await cli("effect", "resolve", *flags, "--yes", "--as", "bo", "-o", "jsonl")

        assert (done.code, [line["state"] for line in done.lines]) == (0, ["FAILED"] * 3), done.err
        await cli.house.until(session_id, "completed")
        assert (await cli("effect", "list", "--unknown", "--json")).json == []
        told = [entry for entry in await cli.house.entries(session_id) if entry["kind"] == "effect_resolved"]
        assert [(entry["actor"], b"the line was down" in entry["body"]) for entry in told] == [("bo", True)] * 3
        assert (await cli("effect", "resolve", *flags, "--yes")).code == 3


async def test_a_result_must_fit_the_tools_type_and_reaches_the_model(settle):
    async with settle(scenario("wire", 100)) as cli:
        session_id = await held(cli, "wire")
        [doubt] = (await cli("effect", "list", "--unknown", "--json")).json
        say = ("effect", "resolve", doubt["effect_id"], "--happened", "--reason", "seen", "--result")
        for misfit in ('{"receipt": 7, "cents": 100}', '{"receipt": "R-7"}', "{"):
            refused = await cli(*say, misfit)
            assert (refused.code, "no result of `wire`" in refused.err) == (2, True), refused.err

        done = await cli(*say, '{"receipt": "R-7", "cents": 100}')

        assert done.code == 0, done.err
        await cli.house.until(session_id, "completed")
        told = json.dumps(cli.house.model.requests[-1].body)
        assert "R-7" in told
        assert "checked: this call did happen. seen" in told
        again = await cli(*say, '{"receipt": "R-7", "cents": 100}')
        assert (again.code, "settled before, as DONE" in again.err) == (2, True), again.err


async def test_a_retry_runs_the_call_again_under_the_same_key(settle, desk):
    async with settle(scenario("wire", 100)) as cli:
        session_id = await held(cli, "wire")
        [doubt] = (await cli("effect", "list", "--unknown", "--json")).json
        (desk / "says").write_text("open")

        done = await cli("effect", "resolve", doubt["effect_id"], "--retry", "--reason", "it dedupes")

        assert done.code == 0, done.err
        await cli.house.until(session_id, "completed")
        assert (desk / "log").read_text().splitlines() == [f"wire 100 {doubt['effect_id']}"] * 2
        shown = (await cli("effect", "show", doubt["effect_id"], "--json")).json
        assert [attempt["state"] for attempt in shown["attempts"]] == ["UNKNOWN", "DONE"]
        assert shown["attempts"][0]["evidence"]["error"] == "RuntimeError"


async def test_a_probe_that_learns_the_truth_later_settles_it_by_itself(settle, desk, monkeypatch):
    monkeypatch.setattr(probe_call, "FIRST_PAUSE", probe_call.FIRST_PAUSE / 50)
    async with settle(scenario("order", 100)) as cli:
        session_id = await held(cli, "order")
        [doubt] = (await cli("effect", "list", "--unknown", "--json")).json
        (desk / "says").write_text("R-9")
        await cli.house.until(session_id, "completed")

        assert (desk / "log").read_text() == "order 100\n"
        shown = (await cli("effect", "show", doubt["effect_id"], "--json")).json
        assert shown["state"] == "DONE"
        assert "R-9" in json.dumps(cli.house.model.requests[-1].body)
        told = [entry for entry in await cli.house.entries(session_id) if entry["kind"] == "effect_resolved"]
        assert [entry["actor"] for entry in told] == ["probe"]


async def test_a_person_can_have_the_probe_asked_now(settle, desk, monkeypatch):
    monkeypatch.setattr(probe_call, "FIRST_PAUSE", probe_call.LONGEST_PAUSE)
    async with settle(scenario("order", 100)) as cli:
        session_id = await held(cli, "order")
        [doubt] = (await cli("effect", "list", "--unknown", "--json")).json
        asked = "SELECT 1 FROM holdfast.effect WHERE probes > 0"
        await until(lambda: cli.house.rows(asked), "the first question")
        assert "closed" in (await cli("effect", "show", doubt["effect_id"])).out
        (desk / "says").write_text("R-9")

        done = await cli("effect", "resolve", doubt["effect_id"], "--probe", "--reason", "they are open again")

        assert done.code == 0, done.err
        await cli.house.until(session_id, "completed")


async def test_an_abort_ends_the_asking_and_leaves_the_doubt(settle):
    async with settle(scenario("order", 100)) as cli:
        session_id = (await cli("start", "order", "-q")).out.strip()
        await cli.house.until(session_id, "held")

        assert (await cli("abort", session_id, "--reason", "enough")).code == 0

        await cli.house.until(session_id, "idle")
        [doubt] = (await cli("effect", "list", "--unknown", "--json")).json
        assert [row["state"] for row in await cli.house.rows("SELECT state FROM holdfast.saga")] == ["HELD"]
        asked = await cli("effect", "resolve", doubt["effect_id"], "--probe", "--reason", "x")
        assert (asked.code, "not in doubt" in asked.err) == (2, True), asked.err
        described = await cli.house.handle(session_id).describe()
        assert not described.raw_description.pending_activities


async def test_what_has_no_probe_cannot_be_asked(settle):
    async with settle(scenario("wire", 100)) as cli:
        await held(cli, "wire")
        [doubt] = (await cli("effect", "list", "--unknown", "--json")).json
        done = await cli("effect", "resolve", doubt["effect_id"], "--probe", "--reason", "x")
        assert (done.code, "no probe" in done.err) == (2, True)


async def test_a_model_that_is_told_goes_on_and_its_request_is_held_until_the_doubt_is_settled(settle):
    async with settle(scenario("wire", 100), config=CONFIG + 'on_unknown = "tell"\n') as cli:
        done = await cli("run", "wire", "-o", "json")
        session_id = done.json["session_id"]
        await cli.house.until(session_id, "completed")
        assert "a person is checking" in json.dumps(cli.house.model.requests[-1].body)
        assert [row["state"] for row in await cli.house.rows("SELECT state FROM holdfast.saga")] == ["HELD"]
        [doubt] = (await cli("effect", "list", "--unknown", "--json")).json

        retried = await cli("effect", "resolve", doubt["effect_id"], "--retry", "--reason", "x")
        settled = await cli("effect", "resolve", doubt["effect_id"], "--happened", "--reason", "seen")

        assert (retried.code, "request has ended" in retried.err) == (2, True), retried.err
        assert settled.code == 0, settled.err
        assert [row["state"] for row in await cli.house.rows("SELECT state FROM holdfast.saga")] == ["COMMITTED"]
        assert (await cli("ledger", "verify", session_id)).code == 0


THEN_ASKED = """
name: wire and pay
description: A write in doubt, then one that a person must allow.
example: wire and pay
match: '^wire and pay'
turns:
  - calls: [{tool: wire, input: {cents: 100}}]
  - calls: [{tool: pay, input: {cents: 100}}]
  - text: done
"""


async def test_a_retry_that_no_session_waits_for_is_refused_and_leaves_the_doubt(settle, desk):
    config = CONFIG.replace('"order", "pay"]', '"order"]') + 'on_unknown = "tell"\n'
    async with settle(THEN_ASKED, config=config) as cli:
        session_id = (await cli("start", "wire and pay", "-q")).out.strip()
        asked = await cli.house.until_asked(session_id)
        [doubt] = (await cli("effect", "list", "--unknown", "--json")).json

        retried = await cli("effect", "resolve", doubt["effect_id"], "--retry", "--reason", "x")

        assert (retried.code, "is not run again" in retried.err) == (2, True), retried.err
        deny = await cli("deny", session_id, asked["call"], "--reason", "enough")
        assert deny.code == 0, deny.err
        await cli.house.until(session_id, "idle")
        [still] = (await cli("effect", "list", "--unknown", "--json")).json
        assert still["effect_id"] == doubt["effect_id"]
        assert (desk / "log").read_text() == f"wire 100 {doubt['effect_id']}\n"


async def test_the_same_payment_is_refused_to_a_model_that_plans_it_again(settle, desk):
    async with settle(scenario("pay", 100)) as cli:
        first = (await cli("run", "pay", "-o", "json")).json
        second = await cli("run", "pay", "-o", "json")

        assert (desk / "log").read_text() == "pay 100\n"
        told = json.dumps(cli.house.model.requests[-1].body)
        assert "was done at" in told
        assert first["session_id"] in told
        entries = await cli.house.entries(second.json["session_id"])
        assert [e["outcome"] for e in entries if e["kind"] == "call_decided"] == ["deny"]
        states = [
            row["state"] for row in await cli.house.rows("SELECT state FROM holdfast.effect WHERE tool = 'pay'")
        ]
        assert sorted(states) == ["CANCELLED", "DONE"]


async def test_policy_may_ask_a_person_about_the_same_payment(settle, desk):
    async with settle(scenario("pay", 100), config=CONFIG + 'on_repeat = "ask"\n') as cli:
        await cli("run", "pay")
        session_id = (await cli("start", "pay", "-q")).out.strip()
        asked = await cli.house.until_asked(session_id)
        assert "was done at" in asked["preview"]

        assert (await cli("approve", session_id)).code == 0

        await cli.house.until(session_id, "idle")
        assert (desk / "log").read_text() == "pay 100\npay 100\n"


@pytest.mark.parametrize("name", ["pay", "--all-writes"])
async def test_a_disabled_tool_is_refused_to_the_model_until_it_is_enabled(settle, desk, name):
    async with settle(scenario("pay", 100)) as cli:
        done = await cli("tool", "disable", name, "--reason", "incident 12", "--as", "bo")
        assert done.code == 0, done.err
        await cli("run", "pay")
        assert not (desk / "log").exists()
        assert "disabled by bo: incident 12" in json.dumps(cli.house.model.requests[-1].body)
        listed = await cli("tool", "list", "--json")
        stopped = [row["name"] for row in listed.json if row["stopped"]]
        assert (stopped == []) == (name == "pay")
        assert "incident 12" in listed.err
        again = await cli("tool", "disable", name, "--reason", "other", "--as", "eve", "--json")
        assert (again.json["changed"], again.json["by"]) == (False, "bo")

        assert (await cli("tool", "enable", name, "--reason", "fixed")).code == 0

        await cli("run", "pay")
        assert (desk / "log").read_text() == "pay 100\n"
        assert (await cli("tool", "enable", name, "--reason", "fixed")).code == 3
        assert "incident 12" in (await cli("ledger", "show", "@operations", "--json")).out
        assert (await cli("ledger", "verify", "@operations")).code == 0


async def test_a_tool_that_keeps_failing_is_left_alone_and_the_model_hears_for_how_long(settle, desk):
    config = """
[agents.default]
tools = ["wire"]

[agents.default.limits]
parallel_calls = 1

[agents.default.policy]
allow = ["wire"]
on_unknown = "tell"

[tools.wire]
run = "desk_tools:wire"
breaker = { failures = 2, within = "1m", open_for = "5m" }
"""
    async with settle(scenario("wire", 100, 200, 300), config=config) as cli:
        await cli("run", "wire")

        assert len((desk / "log").read_text().splitlines()) == 2
        assert "wire failed 2 times in a row and is left alone for now; try again in" in json.dumps(
            cli.house.model.requests[-1].body
        )
        [row] = [row for row in (await cli("tool", "list", "--json")).json if row["name"] == "wire"]
        assert "left alone for 4m" in row["stopped"]
        assert (await cli("tool", "enable", "wire", "--reason", "it is up")).code == 0
