"""What people, files and models get wrong: told in words with the right exit code, and the session goes on."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast_cli.app import App, Flags
from holdfast_cli.exits import Failure
from holdfast_cli.following.follow import follow
from tests.cli.conftest import Cli, point_at
from tests.conftest import OpenHouse

NOWHERE = "127.0.0.1:1"

TOOL = """
from holdfast import tool

@tool
def count(text: str) -> int:
    "Count the words of `text`."
    return len(text.split())
"""
BROKEN = """
[agents.default]
tools = ["read_file"]

[agents.lost]
tools = ["bad_import:count"]

[agents.double]
tools = ["good_one:count", "good_two:count"]

[agents.missing]
tools = ["read_fiel"]
"""

ODD_TOOLS = '''
from holdfast import tool

ODD = {"huge": lambda: "x" * 17_000_000, "bytes": lambda: b"\\xff\\xfe", "nan": lambda: {"rate": float("nan")},
       "object": object}

@tool
def odd(kind: str) -> object:
    """Return something odd."""
    return ODD[kind]()
'''
ODD = """
name: odd
description: odd.
example: odd
match: '^odd'
turns:
  - calls:
      - {tool: odd, input: {kind: huge}}
      - {tool: odd, input: {kind: bytes}}
      - {tool: odd, input: {kind: nan}}
      - {tool: odd, input: {kind: object}}
  - text: done with that
"""


@pytest.fixture
async def broken(open_house: OpenHouse, tmp_path: Path, monkeypatch, capsys) -> AsyncIterator[Cli]:
    """A house where one agent works and the tools of the others do not."""
    (tmp_path / "bad_import.py").write_text("\nimport missing_library\n")
    for name in ("good_one", "good_two"):
        (tmp_path / f"{name}.py").write_text(TOOL)
    async with open_house(config=BROKEN) as house:
        point_at(house, tmp_path, monkeypatch)
        yield Cli(house, capsys)


@pytest.mark.parametrize(
    ("agent", "says"),
    [
        ("lost", "bad_import.py:2: ModuleNotFoundError: No module named 'missing_library'"),
        ("double", "two tools are named `count`: good_one:count and good_two:count"),
        ("missing", "there is no tool `read_fiel`; did you mean `read_file`?"),
    ],
)
async def test_an_agent_whose_tools_are_broken_is_refused_and_the_others_work(
    broken: Cli, agent: str, says: str
) -> None:
    refused = await broken("run", "hello", "--agent", agent)
    assert (refused.code, says in refused.err, "Traceback" in refused.err) == (1, True, False), refused.err
    assert (await broken("run", "hello", "-q")).code == 0


async def test_a_mistake_in_the_configuration_is_named_by_file_and_line(broken: Cli, tmp_path: Path) -> None:
    (tmp_path / "holdfast.toml").write_text("[agents.default]\ntols = []\n")
    for arguments in (["agent", "list"], ["tool", "list"]):
        done = await broken(*arguments)
        assert done.code == 2, done.err
        assert "holdfast.toml:2: [agents.default] unknown key `tols`; did you mean `tools`?" in done.err
    async with broken.process("worker", "start") as worker:
        _, err = await asyncio.wait_for(worker.communicate(), 20)
    assert worker.returncode == 2
    assert b"holdfast.toml:2:" in err
    assert b"Traceback" not in err
    assert (await broken("run", "hello", "-q")).code == 0  # its worker read the file before


async def test_a_session_nobody_knows_is_said_to_be_missing(cli: Cli) -> None:
    commands = (
        ["send", "nothing", "hello"],
        ["attach", "nothing"],
        ["show", "nothing"],
        ["approve", "nothing"],
        ["interrupt", "nothing"],
        ["session", "recheck", "nothing"],
    )
    for arguments in commands:
        done = await cli(*arguments)
        assert (done.code, "nothing" in done.err) == (3, True), arguments


async def test_a_message_too_big_to_send_leaves_the_session_as_it_is(cli: Cli, tmp_path: Path) -> None:
    session = (await cli("start", "hello", "-q")).out.strip()
    await cli.house.until(session, "idle")
    (tmp_path / "huge.txt").write_text("x" * 5 * 2**20)
    done = await cli("send", session, "@huge.txt")
    assert done.code == 2
    assert "Nothing was sent" in done.err
    assert (await cli("send", session, "hello", "--follow")).code == 0


async def test_a_message_id_is_not_used_for_another_message(cli: Cli) -> None:
    session = (await cli("start", "hello", "-q")).out.strip()
    await cli.house.until(session, "idle")
    for _ in range(2):
        done = await cli("send", session, "hello", "--id", "m-1", "--follow")
        assert (done.code, done.out.count("Hello!")) == (0, 1)
    other = await cli("send", session, "List the files in the workspace.", "--id", "m-1")
    assert other.code == 2
    assert "`m-1` was used before for another message" in other.err
    assert (await cli("send", session, "List the files in the workspace.", "--id", "m-2", "--follow")).code == 0
    assert cli.house.model.count == 4


async def test_a_decision_after_the_time_to_decide_changes_nothing(
    open_house: OpenHouse, tmp_path: Path, monkeypatch, capsys
) -> None:
    quick = (
        '[agents.default]\ntools = ["write_file"]\n[agents.default.policy]\nask = ["*"]\napproval_expiry = "1s"\n'
    )
    async with open_house(config=quick) as house:
        point_at(house, tmp_path, monkeypatch)
        cli = Cli(house, capsys)
        session = await cli.waiting_session()
        await house.until(session, "idle")
        late = await cli("approve", session, "1.1")
        assert late.code == 3
        assert "expired" in late.err
        assert not (tmp_path / "notes.txt").exists()
        assert (await cli("send", session, "hello", "--follow")).code == 0


async def test_whatever_a_tool_returns_the_session_goes_on(
    open_house: OpenHouse, tmp_path: Path, monkeypatch, capsys
) -> None:
    (tmp_path / "odd_tools.py").write_text(ODD_TOOLS)
    async with open_house(ODD, config='[agents.default]\ntools = ["odd_tools:odd"]\n') as house:
        point_at(house, tmp_path, monkeypatch)
        done = await Cli(house, capsys)("run", "odd", "-o", "jsonl")
        assert done.code == 0
        states = [line["state"] for line in done.lines if line["event"] == "call"]
        assert states.count("done") == 4
        last = json.dumps(house.model.requests[-1].body["messages"][-1])
        for marked in ("only its head and tail are kept", "binary data", "no form for", "no JSON form"):
            assert marked in last


async def test_a_call_of_a_tool_that_does_not_exist_goes_back_to_the_model(cli: Cli) -> None:
    cli.house.model.inject({"kind": "unknown_tool"})
    done = await cli("run", "List the files in the workspace.", "-o", "jsonl")
    assert done.code == 0
    last = cli.house.model.requests[1].body["messages"][-1]["content"][0]
    assert last["is_error"]
    assert "no_such_tool" in json.dumps(last)


async def test_arguments_that_are_no_json_go_back_to_the_model(cli: Cli) -> None:
    cli.house.model.inject({"kind": "malformed_tool_json"})
    done = await cli("run", "List the files in the workspace.", "-q")
    assert done.code == 0
    last = cli.house.model.requests[1].body["messages"][-1]["content"][0]
    assert last["is_error"]


async def test_every_command_says_which_server_is_away_and_shows_no_password(cli: Cli, monkeypatch) -> None:
    session = await cli.waiting_session()
    dsn = os.environ["HOLDFAST_DSN"]
    monkeypatch.setenv("HOLDFAST_DSN", f"postgresql://me:hunter2@{NOWHERE}/holdfast")
    reads = (
        ["show", session],
        ["session", "list"],
        ["approval", "list"],
        ["effect", "list"],
        ["saga", "list"],
        ["ledger", "verify"],
        ["db", "status"],
        ["attach", session],
    )
    writes = (["start", "hello"], ["run", "hello"], ["send", session, "hello"], ["approve", session])
    for arguments in (*reads, *writes):
        away = await cli(*arguments)
        assert (away.code, f"Postgres at {NOWHERE}/holdfast" in away.err) == (4, True), (arguments, away.err)
        assert "hunter2" not in away.err
        assert "Traceback" not in away.err

    monkeypatch.setenv("HOLDFAST_DSN", dsn)
    monkeypatch.setenv("TEMPORAL_ADDRESS", NOWHERE)
    for arguments in (*writes, ["interrupt", session], ["close", session]):
        away = await cli(*arguments)
        assert (away.code, f"Temporal does not answer at {NOWHERE}" in away.err) == (4, True), (arguments, away.err)
    monkeypatch.setenv("TEMPORAL_ADDRESS", cli.house.settings.temporal.address)
    assert (await cli("approve", session)).code == 0
    await cli.house.until(session, "idle")


async def test_a_follower_that_gives_up_says_how_to_follow_again() -> None:
    app = App(Flags(dsn=f"postgresql://me:hunter2@{NOWHERE}/holdfast", home="/nowhere"))
    with pytest.raises(Failure) as gave_up:
        await asyncio.to_thread(follow, app, "case-1", "end")
    assert gave_up.value.code == 4
    assert "holdfast attach case-1" in str(gave_up.value)
    assert "hunter2" not in str(gave_up.value)
