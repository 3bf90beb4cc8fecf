"""A slice of `make chaos` for every day: real processes, real kills, judged by the services' log."""

from pathlib import Path

import pytest

from holdfast_workers.chaos.run import Plan, run

FAULTS = ("kill", "crash_at", "backend_kill", "desk", "model", "approvals", "abort", "session_terminated")


@pytest.mark.timeout(180)
async def test_effects_happen_once_although_workers_die_and_answers_are_lost(tmp_path: Path) -> None:
    told: list[str] = []

    report = await run(Plan(home=tmp_path, sessions=9, kills=2, seed=29, faults=FAULTS, workers=2), told.append)

    assert report.broken == (), "\n".join(told)
    assert (report.duplicates, report.lost, report.unreported, report.stuck_sessions) == (0, 0, 0, 0)
    assert report.ledger_verified
    given_up = report.sagas["sessions_aborted"] + report.sagas["sessions_terminated"]
    assert report.sessions == 9 <= report.sessions_completed + given_up
    assert report.sagas["committed"] + report.sagas["aborted"] == 9
    assert report.sagas["standing"] == report.sagas["unfinished"] == 0
    assert report.kills == 2
    assert report.effects >= 35
