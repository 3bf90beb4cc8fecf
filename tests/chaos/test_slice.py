"""A slice of `make chaos` for every day: real processes, real kills, judged by the services' log."""

from pathlib import Path

import pytest

from holdfast_workers.chaos.run import Plan, run

FAULTS = ("kill", "crash_at", "backend_kill", "desk", "model", "approvals")


@pytest.mark.timeout(180)
async def test_effects_happen_once_although_workers_die_and_answers_are_lost(tmp_path: Path) -> None:
    told: list[str] = []

    report = await run(Plan(home=tmp_path, sessions=6, kills=2, seed=11, faults=FAULTS, workers=2), told.append)

    assert report.broken == (), "\n".join(told)
    assert (report.duplicates, report.lost, report.unreported, report.stuck_sessions) == (0, 0, 0, 0)
    assert report.ledger_verified
    assert report.sessions_completed == report.sessions == 6
    assert report.kills == 2
    assert report.effects >= 25
