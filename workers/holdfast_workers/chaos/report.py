"""What a run found, in numbers, and what is kept of one that broke a promise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from holdfast.states import SessionStatus
from holdfast_ledger.export import export_session
from holdfast_workers.chaos.crowd import Crowd
from holdfast_workers.chaos.house import House
from holdfast_workers.chaos.monkey import Monkey
from holdfast_workers.chaos.oracle import Truth
from holdfast_workers.chaos.people import Resolver

KEPT_SESSIONS = 25


class Report(BaseModel):
    """The one line of `holdfast chaos --json`. Every field is always there."""

    model_config = ConfigDict(frozen=True)

    seed: int
    sessions: int
    kills: int
    faults: Mapping[str, int]
    effects: int
    """Carried out, as the services' log says."""
    duplicates: int
    lost: int
    unreported: int
    unknown: int
    """Effects that were in doubt at some moment."""
    held_resolved: int
    stuck_sessions: int
    ledger_verified: bool
    sessions_completed: int
    sagas: Mapping[str, int]
    """How sagas ended, the sessions given up, and what the services took back."""
    seconds: float
    broken: tuple[str, ...]
    """The promises that did not hold, in words; empty for a good run."""
    artefacts: str | None = None


def judge(
    *,
    seed: int,
    crowd: Crowd,
    monkey: Monkey,
    resolver: Resolver,
    truth: Truth,
    faults: Mapping[str, int],
    broken: tuple[str, ...],
    seconds: float,
) -> Report:
    """Hold every promise against what was found. `broken` are promises that broke before the end."""
    completed = crowd.count(SessionStatus.COMPLETED)
    return Report(
        seed=seed,
        sessions=len(crowd.numbers),
        kills=monkey.kills,
        faults=dict(sorted(faults.items())),
        effects=len(truth.carried),
        duplicates=len(truth.duplicates),
        lost=len(truth.lost),
        unreported=len(truth.unreported),
        unknown=len(resolver.seen),
        held_resolved=len(resolver.resolved),
        stuck_sessions=len(truth.stuck),
        ledger_verified=truth.verified,
        sessions_completed=completed,
        sagas=truth.saga_counts(crowd.given_up),
        seconds=round(seconds, 1),
        broken=(*broken, *broken_by(truth)),
    )


def broken_by(truth: Truth) -> list[str]:
    """The promises that did not hold, in words with examples."""
    found = {
        "no effect is carried out twice": truth.duplicates,
        "what is reported done was carried out": truth.lost,
        "what was carried out is reported": truth.unreported,
        "every doubt is settled": truth.unsettled,
        "nothing stands of what was undone": truth.standing,
        "only what is given up is undone": truth.undone_in_vain,
        "every saga commits or is undone": truth.unfinished,
        "nothing is in doubt that its class can tell": [
            f"{one.tool} {one.effect_id[:12]}" for one in truth.needless_doubts
        ],
        "every session ends, or holds and says why": [f"{one} {why}" for one, why in truth.stuck.items()],
        "no session fails": [f"{one} {why}" for one, why in truth.failed.items()],
        "the ledger verifies": [f"{chain.session_id} {chain.problem}" for chain in truth.chains if not chain.ok]
        + ([] if truth.chains else ["there is no chain"]),
    }
    return [f"{promise}: {_few(bad)}" for promise, bad in found.items() if bad]


def _few(bad: list[str]) -> str:
    more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
    return "; ".join(bad[:5]) + more


async def keep(house: House, crowd: Crowd, monkey: Monkey, truth: Truth, report: Report) -> Path:
    """Write down what somebody needs to understand a run that broke a promise; returns the directory."""
    kept = house.home.path / "artefacts"
    for part in ("histories", "ledger"):
        (kept / part).mkdir(parents=True, exist_ok=True)
    (kept / "report.json").write_text(report.model_dump_json(indent=1))
    lines(kept / "strikes.jsonl", monkey.journal)
    lines(kept / "services.jsonl", await house.services.log())
    lines(kept / "effects.jsonl", [one.model_dump(mode="json") for one in truth.effects])
    lines(kept / "sagas.jsonl", [one.model_dump(mode="json") for one in truth.sagas])
    for session_id in sorted(truth.suspects())[:KEPT_SESSIONS]:
        history = await crowd.client.temporal.get_workflow_handle(session_id).fetch_history()
        (kept / "histories" / f"{session_id}.json").write_text(json.dumps(history.to_json_dict(), indent=1))
        exported = [line async for line in export_session(crowd.client.ledger.database, session_id)]
        (kept / "ledger" / f"{session_id}.jsonl").write_text("\n".join(exported))
    return kept


def lines(file: Path, rows: list[Any]) -> None:
    file.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows))
