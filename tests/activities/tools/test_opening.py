"""Opening and closing a session: the catalogue it gets, and how it is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from temporalio.testing import ActivityEnvironment

from holdfast.budget import TighterLimits
from holdfast.config import Config
from holdfast.contracts import CloseSession, FlushFacts, OpenSession, SessionPlan
from holdfast.facts import Fact, Kind
from holdfast.messages import Principal
from holdfast.states import SessionStatus
from holdfast_activities.opening import Openings
from holdfast_activities.tools.book import ToolBook
from holdfast_ledger.store import Ledger

START = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def openings(ledger: Ledger, tmp_path: Path) -> Openings:
    agents = {"desk": {"tools": ["read_file", "ask_human"]}, "broken": {"tools": ["nothing"]}}
    return Openings(ledger=ledger, book=ToolBook(Config.model_validate({"agents": agents}), tmp_path))


async def _open(openings: Openings, **changes: object) -> SessionPlan:
    request = OpenSession(
        session_id="trip-1",
        run_id="run-1",
        agent="desk",
        principal=Principal(requested_by="ana", tenant="north", roles=("clerk",)),
        started_at=START,
    )
    plan: SessionPlan = await ActivityEnvironment().run(openings.open_session, request.model_copy(update=changes))
    return plan


async def test_a_session_opens_with_its_catalogue_stored(openings: Openings, ledger: Ledger) -> None:
    plan = await _open(openings, limits=TighterLimits(turns=3))

    assert plan.refused is None
    assert plan.limits.turns == 3
    assert {tool.name: tool.handled for tool in plan.tools} == {
        "read_file": "activity",
        "ask_human": "workflow",
        "read_result": "activity",
    }
    catalogue = await ledger.catalogue(plan.catalogue)
    assert catalogue.principal.tenant == "north"
    assert catalogue.agent.name == "desk"


async def test_opening_again_gives_the_same_plan(openings: Openings, owner: asyncpg.Connection) -> None:
    assert await _open(openings) == await _open(openings)

    assert await owner.fetchval("SELECT count(*) FROM holdfast.entry WHERE kind = 'session_opened'") == 1


async def test_opening_again_after_its_agent_changed_gives_what_it_was_opened_with(
    openings: Openings, ledger: Ledger, tmp_path: Path
) -> None:
    opened = await _open(openings)
    deployed = Config.model_validate({"agents": {"desk": {"tools": ["write_file"]}}})

    assert await _open(Openings(ledger=ledger, book=ToolBook(deployed, tmp_path))) == opened


async def test_an_unknown_agent_is_refused_with_the_known_ones(openings: Openings) -> None:
    plan = await _open(openings, agent="dsk")

    assert plan.refused == "there is no agent `dsk`; did you mean `desk`?; known agents: broken, desk"


async def test_an_agent_whose_tools_cannot_be_found_is_refused_with_the_reason(openings: Openings) -> None:
    assert (await _open(openings, agent="broken")).refused == "agent `broken`: there is no tool `nothing`"


async def test_an_id_that_another_workflow_used_is_refused(openings: Openings) -> None:
    await _open(openings)

    refused = (await _open(openings, run_id="run-2")).refused

    assert refused
    assert "trip-1" in refused


async def test_facts_are_told_and_the_end_is_written(openings: Openings, owner: asyncpg.Connection) -> None:
    await _open(openings)
    fact = Fact(key="limit:1", kind=Kind.LIMIT_REACHED, at=START)
    environment = ActivityEnvironment()

    for _ in range(2):
        await environment.run(openings.flush_facts, FlushFacts(session_id="trip-1", outbox=(fact,)))
    await environment.run(
        openings.close_session,
        CloseSession(session_id="trip-1", status=SessionStatus.COMPLETED, reason="done", at=START),
    )

    kinds = [row["kind"] for row in await owner.fetch("SELECT kind FROM holdfast.entry ORDER BY seq")]
    assert kinds == ["session_opened", "limit_reached", "session_closed"]
    assert await owner.fetchval("SELECT status FROM holdfast.session") == "completed"
