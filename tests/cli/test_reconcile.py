"""Effects held against Temporal's history and their services: what agrees is quiet, each difference is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast_workers.stack.servers import ServerAddresses
from tests.cli.conftest import Cli, Done, point_at
from tests.conftest import House, cloned, house_opener

TOOLS = '''
import os
from pathlib import Path

from holdfast import DidNotHappen, Idempotent, Inconclusive, Landed, Never, Probe, ToolContext, tool


async def ask(ctx: ToolContext, cents: int) -> Landed | DidNotHappen | Inconclusive:
    says = Path(os.environ["SHOP_SAYS"]).read_text()
    return {"landed": Landed(f"{cents}"), "never": DidNotHappen(final=True)}.get(says) or Inconclusive(says)


@tool(tier="irreversible", undo=Never("it is sent"), recovery=Probe(ask))
async def order(ctx: ToolContext, cents: int) -> str:
    """Order something."""
    return f"{cents}"


@tool(tier="irreversible", recovery=Idempotent("24h"))
async def release(ctx: ToolContext, what: str) -> str:
    """Give it back."""
    return what


@tool(tier="reversible", recovery=Idempotent("24h"), undo=release, undo_args=lambda args, result: args)
async def reserve(ctx: ToolContext, what: str) -> str:
    """Set it aside."""
    return what
'''
CONFIG = """
[agents.default]
tools = ["shop_tools:order", "shop_tools:reserve"]

[agents.default.policy]
allow = ["order"]

[agents.careful]
tools = ["shop_tools:order", "shop_tools:reserve"]
"""
SCENARIO = """
name: order
description: Orders.
example: order
match: '^order'
turns:
  - calls:
      - {tool: order, input: {cents: 100}}
  - text: Ordered.
"""

RESERVE = """
name: reserve
description: Reserves, then orders.
example: reserve
match: '^reserve'
turns:
  - calls:
      - {tool: reserve, input: {what: seat}}
  - calls:
      - {tool: order, input: {cents: 100}}
  - text: Ordered.
"""

OF_SESSION = "session_key = (SELECT session_key FROM holdfast.session WHERE id = $1)"


@pytest.fixture(scope="module")
async def house(
    servers: ServerAddresses,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> AsyncIterator[House]:
    """One for all: each test has a session of its own, and tampers with that alone."""
    home = tmp_path_factory.mktemp("shop")
    (home / "shop_tools.py").write_text(TOOLS)
    async with cloned(servers, template) as database:
        open_house = house_opener(servers, database, home, request)
        async with open_house(SCENARIO, RESERVE, config=CONFIG) as house:
            yield house


@pytest.fixture
def shop(house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    home = house.settings.home
    point_at(house, home, monkeypatch)
    monkeypatch.setenv("SHOP_SAYS", str(home / "says"))
    return Cli(house, capsys)


async def ordered(shop: Cli) -> str:
    done = await shop("run", "order", "--json")
    assert done.code == 0, done.err
    return str(done.json["session_id"])


async def reconciled(shop: Cli, *arguments: str) -> Any:
    """The report; its exit code is checked against it."""
    done: Done = await shop("ledger", "reconcile", *arguments, "--json")
    assert done.code in (0, 1), done.err
    assert done.json["ok"] is (done.code == 0)
    return done.json


async def differences(shop: Cli, *arguments: str) -> list[tuple[str, str | None]]:
    return [(each["what"], each["call"]) for each in (await reconciled(shop, *arguments))["differences"]]


async def test_effects_that_agree_with_history_are_counted_and_nothing_else_said(shop: Cli) -> None:
    session = await ordered(shop)
    report = await reconciled(shop, session)
    assert report == {
        "ok": True,
        "sessions": 1,
        "compared": 3,
        "expired": 0,
        "probed": None,
        "unsure": None,
        "differences": [],
    }
    assert (await reconciled(shop, "--since", "1h"))["compared"] >= 3
    assert (await shop("ledger", "reconcile", session, "--since", "1h")).code == 2


async def test_what_was_undone_agrees_too_and_is_told_as_undone(shop: Cli) -> None:
    started = await shop("start", "reserve", "--agent", "careful", "-q")
    session = started.out.strip()
    await shop.house.until_asked(session)
    assert (await shop("abort", session, "--as", "eve")).code == 0
    await shop.house.until(session, "idle")
    report = await reconciled(shop, session)
    effects = await shop.house.rows(f"SELECT 1 FROM holdfast.effect WHERE token > 0 AND {OF_SESSION}", session)
    assert (report["ok"], report["compared"], report["expired"]) == (True, len(effects), 0), report
    story = (await shop("show", session, "--json")).json
    assert story["undone"] == ["1.1"]
    assert "↶ 1.1 undone by release" in (await shop("show", session)).out
    await shop.house.rows(
        f"UPDATE holdfast.effect SET state = 'FAILED' WHERE kind = 'undo' AND {OF_SESSION}", session
    )
    assert await differences(shop, session) == [("other_outcome", "1.1")]


TAMPERING = (
    (
        """UPDATE holdfast.effect
        SET outcome = convert_to(replace(convert_from(outcome, 'UTF8'), '"digest":"', '"digest":"0'), 'UTF8')
        WHERE kind = 'call' AND """,
        [("other_outcome", "1.1")],
    ),
    ("UPDATE holdfast.effect SET state = 'FAILED' WHERE kind = 'call' AND ", [("other_outcome", "1.1")]),
    ("UPDATE holdfast.effect SET state = 'OPEN' WHERE kind = 'call' AND ", [("not_settled", "1.1")]),
    (
        """INSERT INTO holdfast.effect (
            effect_id, session_key, kind, turn, call, tool, recovery, fingerprint, saga_id, state, token
        )
        SELECT 'x-' || session_key, session_key, kind, turn, '1.9', tool, recovery, fingerprint, saga_id, 'DONE', 1
        FROM holdfast.effect WHERE kind = 'call' AND """,
        [("no_activity", "1.9"), ("not_settled", "1.1")],
    ),
    (
        """DELETE FROM holdfast.attempt a USING holdfast.effect e
        WHERE e.effect_id = a.effect_id AND e.call = '1.1' AND """,
        [("no_activity", "1.9"), ("not_settled", "1.1")],
    ),
    (
        "DELETE FROM holdfast.effect WHERE call = '1.1' AND ",
        [("no_activity", "1.9"), ("no_effect", "1.1")],
    ),
    (
        "UPDATE holdfast.turn SET digest = 'x' WHERE turn = 2 AND ",
        [("no_activity", "1.9"), ("no_effect", "1.1"), ("other_outcome", None)],
    ),
)
"""Statements, to be completed by whose rows are meant, one after the other, and what differs after each."""


async def test_an_effect_that_was_tampered_with_is_named(shop: Cli) -> None:
    session = await ordered(shop)
    for statement, found in TAMPERING:
        await shop.house.rows(statement + OF_SESSION, session)
        assert await differences(shop, session) == found, statement
    said = (await shop("ledger", "reconcile", session)).out
    assert f"{session} 1.1 order" in said
    assert "Postgres no such effect" in said


async def test_a_probe_is_asked_and_what_it_says_settles_nothing(shop: Cli) -> None:
    session = await ordered(shop)
    says = shop.house.settings.home / "says"
    says.write_text("landed")
    report = await reconciled(shop, session, "--probe")
    assert (report["ok"], report["probed"], report["unsure"]) == (True, 1, 0)
    says.write_text("closed today")
    report = await reconciled(shop, session, "--probe")
    assert (report["ok"], report["probed"], report["unsure"]) == (True, 1, 1)
    says.write_text("never")
    assert await differences(shop, session, "--probe") == [("probe_differs", "1.1")]
    assert "did not happen" in (await shop("ledger", "reconcile", session, "--probe")).out
    [effect] = await shop.house.rows(
        f"SELECT state, probes FROM holdfast.effect WHERE kind = 'call' AND {OF_SESSION}", session
    )
    assert (effect["state"], effect["probes"]) == ("DONE", 0)


async def test_what_temporal_keeps_no_more_is_expired_and_not_compared(shop: Cli) -> None:
    session = await ordered(shop)
    # Temporal has no workflow of that name.
    await shop.house.rows("UPDATE holdfast.session SET id = 'long-ago' WHERE id = $1", session)
    report = await reconciled(shop, "long-ago")
    assert (report["ok"], report["compared"], report["expired"]) == (True, 0, 3)
