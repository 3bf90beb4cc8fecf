"""The record of all sessions from the command line: found, collected, summed up, held against other witnesses."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from holdfast_cli.commands.ledger_query import FIELDS
from tests.cli.conftest import Cli


async def decided_session(cli: Cli) -> str:
    """A session of which bob approved a write, which was done."""
    session = await cli.waiting_session()
    assert (await cli("approve", session, "--as", "bob")).code == 0
    await cli.house.until(session, "idle")
    return session


async def test_an_auditor_finds_what_somebody_approved_and_reads_on_page_by_page(cli: Cli) -> None:
    session = await decided_session(cli)
    approved = await cli("ledger", "query", "--approver", "bob", "--tool", "write_file", "--since", "1h", "--json")
    assert [entry["kind"] for entry in approved.json] == [
        "effect_outcome",
        "effect_intent",
        "approval_decided",
        "approval_asked",
    ]
    assert all(set(entry) == set(FIELDS) and entry["session_id"] == session for entry in approved.json)
    asked = ("--session", session[:12], "--tier", "reversible", "-o", "jsonl", "--limit", "2")
    first = (await cli("ledger", "query", *asked)).lines
    second = (await cli("ledger", "query", *asked, "--before", first[-1]["cursor"])).lines
    assert [entry["seq"] for entry in first + second] == [entry["seq"] for entry in approved.json]
    shown = await cli("ledger", "query", "--actor", "bob", "--limit", "1")
    assert "effect_intent" in shown.out
    assert "--before" in shown.err
    assert (await cli("ledger", "query", "--before", "yesterday")).code == 2
    assert "No entries." in (await cli("ledger", "query", "--until", "2020-01-01")).err


async def test_a_collector_gets_every_entry_once_and_goes_on_where_it_stopped(cli: Cli) -> None:
    session = await decided_session(cli)
    lines = (await cli("ledger", "tail")).lines
    recorded = await cli.house.entries(session)
    assert len(lines) > 10
    assert [line["hash"] for line in lines] == [row["hash"].hex() for row in recorded[: len(lines)]]
    rest = await cli("ledger", "tail", "--after", lines[2]["cursor"], "--limit", "3")
    assert rest.lines == lines[3:6]
    assert (await cli("ledger", "tail", "--after", "1", "--since", "1h")).code == 2

    async with cli.process("ledger", "tail", "--follow", "--after", lines[-1]["cursor"]) as following:
        await cli("send", session, "hello")
        assert following.stdout
        line = json.loads(await asyncio.wait_for(following.stdout.readline(), 20))
    assert (line["session_id"], line["seq"]) == (session, lines[-1]["seq"] + 1)


async def test_costs_are_summed_up_and_an_unknown_price_is_said(cli: Cli) -> None:
    session = await decided_session(cli)
    report = (await cli("cost", "--by", "session", "--since", "1h", "--json")).json
    assert [(row["key"], row["turns"], row["calls"], row["usd"]) for row in report["rows"]] == [
        (session, 2, 1, "0")
    ]
    assert report["total"]["turns"] == 2
    await cli.house.rows(
        "UPDATE holdfast.turn SET usd = NULL, model_answered = 'gpt-oss', input_tokens = 7 WHERE turn = 1"
    )
    shown = await cli("cost", "--by", "model")
    assert "unknown (1 without a price)" in shown.out
    assert "gpt-oss" in shown.out
    assert "(tools)" in shown.out
    with (cli.house.settings.config or Path()).open("a") as config:
        config.write('[prices."gpt-oss"]\nsince = 2020-01-01\ninput = 1000000\noutput = 0\n')
        config.write("cache_write = 0\ncache_read = 0\n")
    repriced = await cli("cost", "--by", "model", "--reprice", "-o", "jsonl")
    [row] = [row for row in repriced.lines if row["key"] == "gpt-oss"]
    assert (row["usd"], row["repriced"]) == ("7", 1)


async def test_whoever_exports_a_record_is_recorded_first(cli: Cli) -> None:
    session = await decided_session(cli)
    assert (await cli("ledger", "export", session, "--as", "eve")).code == 0
    [told] = (await cli("ledger", "query", "--session", "@operations", "--json")).json
    assert (told["kind"], told["actor"], told["body"]["session_id"]) == ("ledger_exported", "eve", session)
    assert "eve: ledger exported" in (await cli("show", "@operations")).out
    assert (await cli("ledger", "export", "nobody")).code == 3
