"""Holding a session's ledger against Temporal's history of it, while that is retained.

What an activity told Temporal it had recorded must stand in the ledger, message digest by message digest. The other
way round proves nothing: a turn of a branch that a reset left behind stands in the ledger alone, and rightly so.
"""

from __future__ import annotations

from dataclasses import dataclass

from temporalio.client import Client

from holdfast.contracts import CallOutcome, TurnResult
from holdfast.states import CallStatus
from holdfast_ledger.reading import Reader
from holdfast_workers.histories import read_history


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`compared` False: Temporal keeps nothing of the session any more. `problem`: what the ledger lacks."""

    session_id: str
    compared: bool
    turns: int = 0
    calls: int = 0
    problem: str | None = None


async def compare(client: Client, reader: Reader, session_id: str) -> Comparison:
    """Raises `RPCError` where Temporal cannot be asked, `LedgerUnavailable`."""
    history = await read_history(client, session_id)  # first: what completes meanwhile was recorded before it
    if not history.retained:
        return Comparison(session_id=session_id, compared=False)
    entries = await reader.timeline(session_id)
    messages = {
        (entry.turn, entry.body.get("message")) for entry in entries if entry.kind == "model_turn" and entry.body
    }
    done = {entry.call for entry in entries if entry.kind in ("effect_outcome", "effect_resolved")}
    turns = calls = 0
    for activity in history.activities:
        if isinstance(activity.result, TurnResult) and activity.result.message:
            turns += 1
            if (activity.input.turn, activity.result.message) not in messages:
                problem = f"Temporal has an answer of `{activity.activity_id}` that the ledger does not have"
                return Comparison(session_id=session_id, compared=True, turns=turns, calls=calls, problem=problem)
        if isinstance(activity.result, CallOutcome) and activity.result.status is CallStatus.OK:
            calls += 1
            if activity.input.call not in done:
                problem = f"Temporal has an outcome of `{activity.activity_id}` that the ledger does not have"
                return Comparison(session_id=session_id, compared=True, turns=turns, calls=calls, problem=problem)
    return Comparison(session_id=session_id, compared=True, turns=turns, calls=calls)
