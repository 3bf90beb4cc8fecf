"""What it cost: one report for each question, and no figure that nobody knows."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, cast, get_args

import pytest

from holdfast.budget import Lost, Usage
from holdfast.catalogue import AgentSpec, Catalogue
from holdfast.pricing import PRICES, OwnPrices, cost_usd
from holdfast.states import EffectState
from holdfast_cli.commands.cost import price_of
from holdfast_ledger.costs import By, CostReport, report
from holdfast_ledger.database import named_sql
from holdfast_ledger.positions import BEGINNING
from holdfast_ledger.store import Ledger
from tests.ledger.conftest import Conversation

TODAY = date.today()


@pytest.fixture
async def bills(conversation: Conversation) -> Conversation:
    """`trip-1` of agent default: two turns for 0.25 each, a call for 0.40. `trip-2` of clerk: a turn for 0.25."""
    call = await conversation.plan()
    granted = await conversation.grant(call)
    await conversation.record(call, granted.token, EffectState.DONE, usd=Decimal("0.40"))
    await conversation.take_turn()
    other = replace(conversation, session_id="trip-2")
    await other.open(agent="clerk", labels={"team": "ops", "case": "7"})
    await other.take_turn()
    return other


def sums(found: CostReport) -> dict[str | None, Decimal | None]:
    return {row.key: row.usd for row in found.rows}


async def test_costs_are_summed_by_what_is_asked_for(bills: Conversation, ledger: Ledger) -> None:
    told = {by: sums(await report(ledger.database, by)) for by in get_args(By)}
    assert told.pop("day").popitem()[1] == Decimal("1.15")
    assert told == {
        "agent": {"default": Decimal("0.90"), "clerk": Decimal("0.25")},
        "session": {"trip-1": Decimal("0.90"), "trip-2": Decimal("0.25")},
        "model": {"claude-1": Decimal("0.75"), None: Decimal("0.40")},
        "tool": {None: Decimal("0.75"), "refund": Decimal("0.40")},
        "label": {"team=travel": Decimal("0.90"), "team=ops": Decimal("0.25"), "case=7": Decimal("0.25")},
    }


async def test_the_total_counts_everything_once(bills: Conversation, ledger: Ledger) -> None:
    for by in get_args(By):
        total = (await report(ledger.database, by)).total
        assert (total.usd, total.turns, total.calls, total.tokens.total) == (Decimal("1.15"), 3, 1, 45)


async def test_only_what_was_recorded_in_the_time_is_counted(bills: Conversation, ledger: Ledger) -> None:
    [row] = (await report(ledger.database, "agent", since=(await last(bills)))).rows
    assert (row.key, row.usd) == ("clerk", Decimal("0.25"))
    none = await report(ledger.database, "agent", until=(await last(bills)) - timedelta(days=1))
    assert (none.rows, none.total.usd) == ((), Decimal(0))


async def last(conversation: Conversation) -> Any:
    return await conversation.owner.fetchval("SELECT max(recorded_at) FROM holdfast.turn")


async def test_a_turn_without_a_price_makes_the_sum_unknown_and_is_counted(
    bills: Conversation, ledger: Ledger
) -> None:
    await bills.take_turn(usd=None)
    found = await report(ledger.database, "agent")
    rows = {row.key: (row.usd, row.known_usd, row.unpriced) for row in found.rows}
    assert rows == {"default": (Decimal("0.90"), Decimal("0.90"), 0), "clerk": (None, Decimal("0.25"), 1)}
    assert (found.total.usd, found.total.known_usd, found.total.unpriced) == (None, Decimal("1.15"), 1)


async def test_lost_answers_of_a_model_are_counted_beside_the_sum_with_the_most_they_cost(
    bills: Conversation, ledger: Ledger
) -> None:
    await bills.take_turn(lost=Lost(attempts=2, tokens=900, usd=Decimal("0.30")))
    found = await report(ledger.database, "session")
    rows = {row.key: (row.usd, row.lost_attempts, row.assumed_usd) for row in found.rows}
    assert rows == {"trip-1": (Decimal("0.90"), 0, 0), "trip-2": (Decimal("0.50"), 2, Decimal("0.30"))}
    assert price_of(found.total) == "$1.4, lost answers: 2, at most $0.3 more"

    await bills.take_turn(lost=Lost(attempts=1, usd=None))
    total = (await report(ledger.database, "model")).total
    assert (total.lost_attempts, total.assumed_usd) == (3, None)


@pytest.mark.parametrize(("declared", "usd"), [(None, Decimal("0.25")), (0.4, None)])
async def test_a_lost_call_costs_nothing_only_where_its_tool_declares_no_cost(
    ledger: Ledger, conversation: Conversation, declared: float | None, usd: Decimal | None
) -> None:
    card = {**CARD, "cost_usd": declared}
    body = Catalogue.model_validate({"agent": AgentSpec(), "tools": [card]}).model_dump_json().encode()
    other = replace(conversation, session_id="trip-3")
    await other.open(catalogue=body, catalogue_digest="c" * 64)
    call = await other.plan()
    await other.grant(call)
    await other.expire_lease(call)
    await other.claim(call)
    assert sums(await report(ledger.database, "session")) == {"trip-3": usd}


CARD = {
    "name": "refund",
    "version": "1",
    "description": "Pay back.",
    "input_schema": {},
    "tier": "irreversible",
    "recovery": "operator",
    "timeout": 30,
    "attempts": 1,
    "result_cap": 1000,
}

OWN = {
    "own": OwnPrices.model_validate(
        {
            "input": 1,
            "output": 2,
            "cache_write": 3,
            "cache_read": 4,
            "long": {"input": "10", "output": "20", "cache_write": "30", "cache_read": "40"},
            "long_above": 1000,
            "later": [
                {"since": date.min.replace(year=2020), "input": 5, "output": 6, "cache_write": 7, "cache_read": 8},
                {"since": date.max, "input": 0, "output": 0, "cache_write": 0, "cache_read": 0},
            ],
        }
    ).prices,
    "claude-haiku-4-5": OwnPrices.model_validate(
        {"input": "7", "output": "7", "cache_write": "7", "cache_read": "7"}
    ).prices,
    "claude-opus-5": OwnPrices.model_validate(
        {"since": date.max, "input": "7", "output": "7", "cache_write": "7", "cache_read": "7"}
    ).prices,
}
USAGES = (
    Usage(input=1, output=2, cache_read=3, cache_write=4),
    Usage(input=60_000, output=7, cache_read=60_000, cache_write=100_000),
)


async def test_turns_without_a_price_are_priced_anew_as_they_would_have_been(
    ledger: Ledger, conversation: Conversation
) -> None:
    """The report's arithmetic is that of the worker, for every model of the table and the user's own."""
    models = {*PRICES, *OWN, "claude-haiku-4-5-20251001", "own-20251001", "unheard-of"}
    for model in models:
        for usage in USAGES:
            await conversation.take_turn(model_answered=model, usage=usage, usd=None)
    found = await report(ledger.database, "model", reprice=OWN)
    expected = {model: [cost_usd(model, usage, on=TODAY, overrides=OWN) for usage in USAGES] for model in models}
    assert {row.key: row.known_usd for row in found.rows} == {
        model: sum((cost or Decimal(0) for cost in costs), Decimal(0)) for model, costs in expected.items()
    }
    assert {row.key: row.unpriced for row in found.rows if row.unpriced} == {"unheard-of": 2}
    assert found.total.repriced == 2 * (len(models) - 1)


async def test_a_price_that_was_recorded_is_never_replaced(bills: Conversation, ledger: Ledger) -> None:
    own = {"claude-1": cast(Any, OWN["own"])}
    assert (await report(ledger.database, "model", reprice=own)).total.usd == Decimal("1.15")


async def test_an_auditor_may_search_collect_and_sum_up(bills: Conversation) -> None:
    """With the auditor's role alone: no statement needs more."""
    async with bills.owner.transaction():
        await bills.owner.execute("SET LOCAL ROLE holdfast_auditor")
        found = await bills.owner.fetch(named_sql()["search"], *[None] * 14, 100)
        beginning = [BEGINNING.recorded_at, BEGINNING.session_key, BEGINNING.seq]
        stream = await bills.owner.fetch(named_sql()["feed"], *beginning, found[0]["recorded_at"], 100)
        sums = await bills.owner.fetch(named_sql()["costs"], "label", None, None, None)
        await bills.owner.fetch(
            named_sql()["note_export"], '{"id": "1", "session_id": "trip-1", "by": "eve"}', b"{}"
        )
    assert len(stream) == len(found) - 1 > 5
    assert len(sums) == 4
