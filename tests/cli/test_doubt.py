"""An effect whose outcome nobody knows: the session is held until a person says, and nothing is sent again."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli, point_at

CONFIG = """
[agents.default]
tools = ["lossy:pay"]

[agents.default.policy]
allow = ["pay"]
"""

TOOL = '''
import os
from pathlib import Path

from holdfast import Never, tool


@tool(tier="irreversible", undo=Never("money is gone"))
async def pay(cents: int) -> str:
    """Pay."""
    with Path(os.environ["PAID_LOG"]).open("a") as log:
        log.write(f"{cents}\\n")
    raise RuntimeError("the connection was lost")
'''

SCENARIO = """
name: pay
description: Pay.
example: pay
match: '^pay'
turns:
  - text: Paying.
    calls:
      - tool: pay
        input: {cents: 500}
  - text: "{{ outcome.pay }}: {{ reason.pay or results.pay }}"
"""


@pytest.fixture
async def held(open_house, tmp_path, monkeypatch, capsys):
    """The command, and the id of a session that is held because a payment was lost."""
    (tmp_path / "lossy.py").write_text(TOOL)
    monkeypatch.setenv("PAID_LOG", str(tmp_path / "paid.log"))  # the module is imported once for all tests
    async with open_house(SCENARIO, config=CONFIG) as house:
        point_at(house, tmp_path, monkeypatch)
        cli = Cli(house, capsys)
        done = await cli("run", "pay", "--until", "waiting", "-o", "json")
        assert done.code == 6, done.err
        yield cli, done.json["session_id"]


@pytest.mark.parametrize(
    ("flag", "state", "told"), [("--happened", "DONE", "ok"), ("--did-not-happen", "FAILED", "error")]
)
async def test_a_person_says_what_happened_and_the_session_goes_on(held, tmp_path, flag, state, told):
    cli, session_id = held
    [doubtful] = (await cli("effect", "list", "--state", "UNKNOWN", "--json")).json
    done = await cli("effect", "resolve", doubtful["effect_id"][:12], flag, "--reason", "asked the bank", "--json")
    assert (done.code, done.json["state"]) == (0, state), done.err
    await cli.house.until(session_id, "completed")
    assert (await cli("effect", "show", doubtful["effect_id"], "--json")).json["state"] == state
    shown = (await cli("show", session_id)).out
    assert "asked the bank" in shown
    assert f"{told}:" in shown
    assert (tmp_path / "paid.log").read_text() == "500\n"


async def test_what_is_not_in_doubt_cannot_be_resolved(held):
    cli, _ = held
    [turn] = (await cli("effect", "list", "--kind", "model", "--json")).json
    done = await cli("effect", "resolve", turn["effect_id"], "--did-not-happen", "--reason", "because")
    assert done.code == 2
    assert "DONE" in done.err


async def test_a_session_that_is_not_held_for_its_database_does_not_look_again(held):
    cli, session_id = held
    assert (await cli("session", "recheck", session_id)).code == 2
