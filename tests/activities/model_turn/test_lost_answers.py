"""A model's answer that was lost counts as billed: nobody tells what it cost, so budgets assume the most."""

from __future__ import annotations

from decimal import Decimal

import asyncpg
import pytest
from temporalio.exceptions import ApplicationError

from holdfast import ids
from holdfast.budget import Lost
from holdfast.contracts import ModelTurn
from holdfast_activities.turn_attempt import MAX_ATTEMPTS
from holdfast_ledger.reading import Reader
from holdfast_ledger.records import Granted
from holdfast_ledger.store import Ledger
from tests.activities.model_turn.conftest import Session

SCRIPT = """
name: weather
description: an answer
example: the weather please
match: weather
turns:
  - text: It is sunny.
"""


async def lost_with_its_worker(session: Session, request: ModelTurn) -> None:
    """A worker claims the turn, and is never heard of again."""
    assert isinstance(await session.ledger.claim(session.turns._claim(request)), Granted)


def at_most(session: Session, input_tokens: int, attempts: int) -> Lost:
    most = session.catalogue.agent.max_tokens
    usd = (2 * input_tokens + 10 * most) / Decimal(1_000_000)
    return Lost(attempts=attempts, tokens=attempts * (input_tokens + most), usd=attempts * usd)


async def test_an_answer_that_was_lost_with_its_worker_counts_as_billed(start, model, owner) -> None:
    session = await start()
    request = session.asks("the weather please")
    await lost_with_its_worker(session, request)
    await lost_with_its_worker(session, request)

    result = await session.attempt(request)

    assert result.lost == at_most(session, result.usage.input, 2)
    assert await session.attempt(request) == result
    assert model.count == 1
    shown = await Reader(session.ledger.database, session.ledger.vault).session(session.id)
    assert (shown.lost_attempts, shown.assumed_tokens, shown.assumed_usd) == tuple(dict(result.lost).values())
    assert (shown.usage.output, shown.usd) == (result.usage.output, result.usd)
    turn = await owner.fetchrow("SELECT lost_attempts, assumed_tokens, assumed_usd FROM holdfast.turn")
    assert tuple(turn) == tuple(dict(result.lost).values())


@pytest.mark.parametrize(
    ("fault", "lost"),
    [
        ({"kind": "http_error", "status": 529}, 0),
        ({"kind": "drop", "after_events": 0}, 1),  # asked, and never answered
        ({"kind": "truncate"}, 1),
    ],
)
async def test_what_the_model_may_have_worked_on_is_counted_and_what_it_turned_away_is_not(
    start, model, fault, lost
) -> None:
    session = await start()
    request = session.asks("the weather please")
    model.inject(fault)
    with pytest.raises(ApplicationError):
        await session.attempt(request)
    result = await session.attempt(request)
    assert (result.lost.attempts if result.lost else 0) == lost
    assert (await Reader(session.ledger.database, session.ledger.vault).session(session.id)).lost_attempts == lost


async def test_a_turn_that_fails_in_the_end_tells_what_was_lost_before(start, model) -> None:
    session = await start()
    request = session.asks("the weather please")
    await lost_with_its_worker(session, request)
    model.inject({"kind": "http_error", "status": 400})
    result = await session.attempt(request)
    assert result.failed
    assert result.lost is not None
    assert result.lost.attempts == 1
    shown = await Reader(session.ledger.database, session.ledger.vault).session(session.id)
    assert (shown.lost_attempts, shown.assumed_tokens) == (1, result.lost.tokens)


async def test_a_turn_that_was_lost_too_often_counts_every_attempt(
    start, model, owner: asyncpg.Connection, ledger: Ledger
) -> None:
    session = await start()
    request = session.asks("the weather please")
    for _ in range(MAX_ATTEMPTS):
        await lost_with_its_worker(session, request)
    effect = ids.effect_id(session.id, ids.turn_path(request.turn), request.head)
    await owner.execute("UPDATE holdfast.effect SET lease_until = now() WHERE effect_id = $1", effect)
    for _ in range(2):
        result = await session.attempt(request)
        assert result.failed
        assert result.lost is not None
        assert result.lost.attempts == MAX_ATTEMPTS
    assert model.count == 0
