"""What a session leaves in its record: each thing an auditor asks about is a fact, not something to be inferred."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from holdfast.facts import Kind
from tests.cli.conftest import Cli


async def told(cli: Cli, session: str) -> dict[str, list[dict[str, Any]]]:
    """Entries by kind: clear columns, and the body's fields over them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in await cli.house.entries(session):
        found.setdefault(row["kind"], []).append({**dict(row), **json.loads(row["body"])})
    return found


async def test_a_call_that_was_asked_about_leaves_who_allowed_it_and_what_came_of_it(cli: Cli) -> None:
    session = await cli.waiting_session()
    assert (await cli("approve", session, "--as", "bob")).code == 0
    await cli.house.until(session, "idle")
    facts = await told(cli, session)

    [opened] = facts[Kind.SESSION_OPENED]
    assert (opened["agent"], len(opened["catalogue_digest"])) == ("default", 64)
    assert opened["actor"] == opened["requested_by"]
    first, second = facts[Kind.MODEL_TURN]
    assert (first["turn"], second["turn"]) == (1, 2)
    for turn in (first, second):
        assert turn["model_asked"]
        assert turn["model_answered"]
        assert set(turn["usage"]) == {"input", "output", "cache_read", "cache_write"}
        assert Decimal(turn["usd"]) == 0
        assert (len(turn["request"]), len(turn["message"])) == (64, 64)
        assert turn["latency_us"] > 0
    [planned] = first["calls"]

    [asked] = facts[Kind.APPROVAL_ASKED]
    [decided] = facts[Kind.APPROVAL_DECIDED]
    for fact in (asked, decided):
        assert (fact["rule"], fact["policy_version"], fact["tier"]) == ("policy.ask:write_file", 1, "reversible")
        assert fact["args_digest"] == planned["args"]
    assert (decided["outcome"], decided["by"], decided["authenticated"]) == ("approved", "bob", False)

    [intent] = facts[Kind.EFFECT_INTENT]
    ran_with = intent["authorization"]
    assert (ran_with["rule"], ran_with["policy_version"]) == ("policy.ask:write_file", 1)
    assert (ran_with["approver"], ran_with["decision"]) == ("bob", decided["decision"])
    assert (intent["token"], intent["actor"], intent["args_digest"]) == (1, "bob", planned["args"])
    assert intent["worker"]
    [outcome] = facts[Kind.EFFECT_OUTCOME]
    assert (outcome["token"], outcome["tier"], outcome["args_digest"]) == (1, "reversible", planned["args"])
    assert len(outcome["outcome"]["digest"]) == 64
    assert outcome["outcome"]["size"] > 0
    assert outcome["latency_us"] > 0

    decisions = await cli.house.rows(
        "SELECT stage, action, rule, policy_version, decided_by, authenticated, args_hash "
        "FROM audit.authz_decision WHERE run_id = $1 ORDER BY created_at",
        session,
    )
    rule = ("policy.ask:write_file", 1, "bob", False, planned["args"])
    assert [tuple(row) for row in decisions] == [("person", "approved", *rule), ("dispatch", "allow", *rule)]

    shown = await cli("show", session)
    assert "bob (name not verified): 1.1 write_file approved" in shown.out
    story = (await cli("show", session, "--json")).json
    assert (story["undone"], story["seconds"] > 0) == ([], True)
    [done] = [each for each in story["timeline"] if each["kind"] == "effect_outcome"]
    assert (done["call"], done["undoes"], done["usd"]) == ("1.1", None, "0")
    assert done["seconds"] > 0


async def test_a_limit_that_is_reached_leaves_what_was_spent_and_what_was_allowed(cli: Cli) -> None:
    started = await cli("run", "List the files in the workspace.", "--max-turns", "1", "--json")
    facts = await told(cli, started.json["session_id"])
    [limit] = facts[Kind.LIMIT_REACHED]
    assert limit["reason"] == "the limit of 1 turns is reached"
    assert (limit["spent"]["turns"], limit["limits"]["turns"]) == (1, 1)


async def test_a_hold_leaves_why_and_a_denied_call_which_rule(cli: Cli) -> None:
    session = await cli.waiting_session()
    assert (await cli("deny", session, "--as", "eve", "--reason", "not today")).code == 0
    await cli.house.until(session, "idle")
    facts = await told(cli, session)
    [decided] = facts[Kind.APPROVAL_DECIDED]
    assert (decided["outcome"], decided["actor"], decided["reason"]) == ("denied", "eve", "not today")
    assert facts[Kind.SESSION_STATUS][0]["outcome"] == "waiting"
    assert Kind.EFFECT_INTENT not in facts
