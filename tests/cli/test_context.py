"""What the model saw in a turn, from the command line."""

from __future__ import annotations

import asyncpg

from holdfast_cli.context import DIFFERS, FIELDS, MATCHES
from tests.cli.conftest import Cli


async def test_show_prints_what_the_model_was_sent_in_a_turn_and_that_the_record_agrees(cli: Cli) -> None:
    session = await cli.waiting_session()
    await cli("approve", session, "--as", "bob")
    await cli.house.until(session, "idle")
    shown = await cli("show", session[:20], "--turn", "2", "--context", "--json")
    assert shown.code == 0
    assert set(shown.json) == set(FIELDS)
    body = cli.house.model.requests[1].body
    assert shown.json["request"] == {name: body[name] for name in shown.json["request"]}
    assert set(body) - set(shown.json["request"]) <= {"stream"}
    text = await cli("show", session, "--turn", "2", "--context")
    assert MATCHES in text.out
    assert "Write file notes.txt saying Buy milk" in text.out
    assert "tool_result" in text.out


async def test_show_fails_where_what_is_stored_is_not_what_was_sent(cli: Cli, owner: asyncpg.Connection) -> None:
    session = await cli.waiting_session()
    for turn, code in (("7", 3), ("0", 2)):
        assert (await cli("show", session, "--turn", turn, "--context")).code == code
    assert (await cli("show", session, "--turn", "1")).code == 2
    altered = await owner.execute(
        """UPDATE holdfast.content
        SET body = convert_to(replace(convert_from(body, 'utf8'), 'milk', 'wine'), 'utf8')
        WHERE convert_from(body, 'utf8') LIKE '"Write file%'"""
    )
    assert altered == "UPDATE 1"
    shown = await cli("show", session, "--turn", "1", "--context")
    assert shown.code == 1
    assert DIFFERS in shown.out
    assert (await cli("show", session, "--turn", "1", "--context", "-q")).out == "false\n"
