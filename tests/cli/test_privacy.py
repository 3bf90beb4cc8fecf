"""A session that says secret things, with master keys and without: what is kept, who reads it, how it ends."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from holdfast_cli.asking import user
from holdfast_workers.keys import KeySettings
from holdfast_workers.stack.servers import ServerAddresses
from tests.cli.conftest import Cli, point_at
from tests.conftest import House, cloned, house_opener
from tests.ledger.test_privacy import rows_with

TOLD = "Zanzibar"
PLANTED = "AKIAIOSFODNN7EXAMPLE"
KNOWN = "correct-horse-battery"
OLD = f"2025:{base64.b64encode(b'o' * 32).decode()}"
NEW = f"2026:{base64.b64encode(b'n' * 32).decode()}"
CONFIG = """
[agents.default]
tools = ["leaky:look", "leaky:break_down"]

[secrets]
allow = ["DESK_TOKEN"]
"""
TOOLS = f'''
from holdfast import ToolContext, ToolRefused, tool


@tool
async def look(ctx: ToolContext, where: str) -> dict[str, str]:
    """Look somewhere."""
    return {{"where": where, "key": "{PLANTED}", "url": f"https://desk/?token={{ctx.secret('DESK_TOKEN')}}"}}


@tool
async def break_down(ctx: ToolContext) -> str:
    """Fail, saying too much."""
    raise ToolRefused(f"the desk refused {{ctx.secret('DESK_TOKEN')}} and {PLANTED}")
'''
SCENARIO = f"""
name: secrets
description: secrets.
example: go
match: go
turns:
  - calls:
      - {{tool: look, input: {{where: "{TOLD}"}}}}
      - {{tool: break_down, input: {{}}}}
  - text: "{TOLD}: {{{{ results.look }}}}"
"""


@pytest.fixture(scope="module")
async def house(
    servers: ServerAddresses,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> AsyncIterator[House]:
    """A worker with a master key, and tools that return secrets. Each test has a session of its own."""
    home = tmp_path_factory.mktemp("leaky")
    (home / "leaky.py").write_text(TOOLS)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DESK_TOKEN", KNOWN)
        async with cloned(servers, template) as database:
            open_house = house_opener(servers, database, home, request)
            async with open_house(SCENARIO, config=CONFIG, keys=KeySettings(keys=OLD)) as house:
                yield house


@pytest.fixture(scope="module")
async def all_rows(house: House) -> AsyncIterator[asyncpg.Connection]:
    """The house's database, as somebody sees it who may do everything."""
    connection = await asyncpg.connect(house.database.owner_dsn)
    yield connection
    await connection.close()


@pytest.fixture
def sealed(house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command with the same key."""
    point_at(house, house.settings.home, monkeypatch)
    monkeypatch.setenv("HOLDFAST_MASTER_KEYS", OLD)
    return Cli(house, capsys)


async def finished(cli: Cli) -> str:
    session = (await cli("start", f"go to {TOLD}", "-q")).out.strip()
    await cli.house.until(session, "idle")
    await cli("close", session)
    await cli.house.until(session, "completed")
    return session


async def test_a_planted_secret_is_kept_nowhere_and_the_cut_is_marked_and_counted(
    sealed: Cli, all_rows: asyncpg.Connection
) -> None:
    session = await finished(sealed)

    history = b"".join(event.SerializeToString() for event in await sealed.house.history(session))
    for secret in (PLANTED, KNOWN):
        assert await rows_with(all_rows, secret) == set()
        assert secret.encode() not in history
    timeline = (await sealed("show", session, "--json")).json["timeline"]
    said = json.dumps(timeline)
    assert "[redacted: aws-access-key]" in said
    assert "[redacted: DESK_TOKEN]" in said
    entries = (await sealed("ledger", "show", session, "-o", "jsonl")).lines
    cut = [entry["body"]["evidence"].get("redacted") for entry in entries if entry["kind"] == "effect_outcome"]
    assert {"aws-access-key": 1, "DESK_TOKEN": 1} in cut


async def test_contents_are_read_with_the_key_and_by_nobody_after_erasure(
    sealed: Cli, all_rows: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await finished(sealed)
    assert await rows_with(all_rows, TOLD) == set()
    assert TOLD in (await sealed("show", session)).out
    assert TOLD in (await sealed("show", session, "--turn", "1", "--context")).out
    listed = await sealed("effect", "list", "--session", session, "--kind", "call", "-o", "jsonl")
    assert TOLD in listed.out
    await sealed("effect", "show", listed.lines[0]["effect_id"])
    assert TOLD in (await sealed("attach", session, "--all")).out
    await sealed("approval", "list", "--all")  # nothing was asked, so nothing of it was read
    read = await all_rows.fetch(
        "SELECT body FROM holdfast.entry WHERE kind = 'contents_read' "
        "AND convert_from(body, 'UTF8')::jsonb->'sessions' ? $1 ORDER BY seq",
        session,
    )
    commands = ["show", "show", "effect list", "effect show", "attach"]
    assert [json.loads(row["body"]) for row in read] == [
        {"by": user(), "command": command, "sessions": [session]} for command in commands
    ]

    monkeypatch.setenv("HOLDFAST_MASTER_KEYS", f"{NEW},{OLD}")
    assert (await sealed("ledger", "rotate-key", "--json")).json == {
        "master_key": "2026",
        "rewrapped": await all_rows.fetchval("SELECT count(*) FROM holdfast.session_key"),
        "left": {},
    }
    monkeypatch.setenv("HOLDFAST_MASTER_KEYS", NEW)
    assert TOLD in (await sealed("show", session)).out
    monkeypatch.setenv("HOLDFAST_MASTER_KEYS", OLD)
    refused = await sealed("show", session)
    assert (refused.code, "`2026`" in refused.err) == (2, True)

    monkeypatch.delenv("HOLDFAST_MASTER_KEYS")
    assert "[encrypted]" not in (await sealed("ledger", "verify", session)).out
    erased = (await sealed("ledger", "erase", session, "--reason", "asked for", "--as", "dpo", "--json")).json
    assert (erased["fresh"], erased["by"]) == (True, "dpo")
    lives_on = {each["where"]: each["until"] for each in erased["lives_on"]}
    assert lives_on[f"Temporal's history of the workflow `{session}`"] is not None
    assert any("`show`" in where for where in lives_on)
    monkeypatch.setenv("HOLDFAST_MASTER_KEYS", NEW)
    shown = await sealed("show", session)
    assert TOLD not in shown.out
    assert "by dpo" in shown.out + shown.err
    assert (await sealed("ledger", "verify", session)).code == 0
    exported = await sealed("ledger", "export", session)
    assert "by dpo" in exported.err


async def test_a_session_in_clear_is_not_erased_and_without_a_key_nothing_is_rotated(idle_cli: Cli) -> None:
    session = (await idle_cli("start", "hello", "-q")).out.strip()

    refused = await idle_cli("ledger", "erase", session, "--reason", "asked for")
    assert (refused.code, "append-only" in refused.err, "HOLDFAST_MASTER_KEYS" in refused.err) == (2, True, True)
    assert "HOLDFAST_MASTER_KEYS" in (await idle_cli("ledger", "rotate-key")).err
