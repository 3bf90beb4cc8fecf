"""What goes wrong in a run, drawn from its seed: kinds, their particulars and their order."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast_activities.faults import ATTEMPT_POINTS, MODEL, SESSION, TASK_POINTS, FaultPoint
from holdfast_workers.chaos.shapes import UNDO, WRITES

KILLS = ("kill", "crash_at")
STORM: Mapping[str, str] = {
    "kill": "SIGKILL to a worker at a random moment",
    "crash_at": "a worker kills itself at a fault point",
    "freeze": "SIGSTOP to a worker, past its leases",
    "freeze_at": "a worker freezes at a fault point, past its lease",
    "shutdown": "SIGTERM to a worker",
    "postgres_restart": "PostgreSQL is stopped, or crashed, and started again",
    "postgres_pause": "SIGSTOP to PostgreSQL, up to longer than a lease",
    "backend_kill": "connections at work are ended inside PostgreSQL, those that commit first",
    "temporal_restart": "the Temporal server is stopped, or killed, and started again",
    "desk": "the services fail, stall or drop the connection, before or after carrying out",
    "model": "the model answers 429, 500 or 529, stalls, truncates or drops the stream",
    "approvals": "decisions are sent twice, at once, in another order, contradicted, or for other arguments",
    "abort": "somebody aborts a session in the middle of its writes",
    "session_terminated": "somebody terminates a session's workflow in the middle of its writes",
}
LOSSES: Mapping[str, str] = {
    "postgres_restored_older": "an older copy of the database comes back",
    "temporal_emptied": "Temporal comes back empty",
}
KINDS = {**STORM, **LOSSES}

# How often each is drawn, beside the kills.
_WEIGHTS = {
    "desk": 5,
    "model": 4,
    "backend_kill": 3,
    "freeze_at": 2,
    "freeze": 1,
    "shutdown": 1,
    "postgres_restart": 1,
    "postgres_pause": 1,
    "temporal_restart": 1,
}
PAST_THE_LEASE_S = (16.5, 21.0)
LONGER_THAN_A_TOOL_S = 10.0
PATHS = {"mail": "/mail/messages", "payments": "/payments/refunds", "probe": "/effects/*", "any": "*"}
DESK_FAULTS = (
    "fail_500",
    "fail_before",
    "fail_after",
    "stall_before",
    "stall_after",
    "drop_before",
    "drop_after",
    "drop_after",
)
MODEL_FAULTS: Sequence[Mapping[str, Any]] = (
    {"kind": "http_error", "status": 429, "retry_after": 1},
    {"kind": "http_error", "status": 500},
    {"kind": "http_error", "status": 529},
    {"kind": "stall", "seconds": 4, "after_events": 3},
    {"kind": "truncate"},
    {"kind": "drop"},
    {"kind": "error_event"},
)


@dataclass(frozen=True, kw_only=True)
class Strike:
    """One thing that goes wrong."""

    number: int
    kind: str
    detail: Mapping[str, Any]


def draw(seed: int, kills: int, kinds: Iterable[str]) -> list[Strike]:
    """As many kills as asked for, and about as many other strikes, in the order they are to come."""
    choice = random.Random(f"strikes {seed}")
    wanted = set(kinds)
    killing = [kind for kind in KILLS if kind in wanted]
    drawn = [killing[turn % len(killing)] for turn in range(kills)] if killing else []
    others = [kind for kind in _WEIGHTS if kind in wanted]
    choice.shuffle(others)
    weighted = [kind for kind in others for _ in range(_WEIGHTS[kind])]
    if others:
        drawn += others[:kills]
        drawn += choice.choices(weighted, k=max(kills - len(others), 0))
    choice.shuffle(drawn)
    points = _points(choice)
    return [
        Strike(number=number, kind=kind, detail=_detail(kind, choice, points))
        for number, kind in enumerate(drawn, start=1)
    ]


def _points(choice: random.Random) -> list[tuple[FaultPoint, str]]:
    """Every fault point of every kind of effect once, shuffled; drawn from as from a pack of cards."""
    pack: list[tuple[FaultPoint, str]] = [(point, of) for point in ATTEMPT_POINTS for of in (*WRITES, MODEL)]
    pack += [(point, UNDO) for point in ATTEMPT_POINTS]
    pack += [(point, SESSION) for point in TASK_POINTS]
    # A tool inside our own transaction sends nothing.
    pack = [card for card in pack if card != (FaultPoint.AFTER_DISPATCH_BEFORE_RESPONSE, "keep_note")]
    choice.shuffle(pack)
    return pack


def _detail(kind: str, choice: random.Random, points: list[tuple[FaultPoint, str]]) -> dict[str, Any]:
    match kind:
        case "crash_at" | "freeze_at":
            point, of = points[0]
            points.append(points.pop(0))
            return {"point": point, "of": of, "seconds": round(choice.uniform(*PAST_THE_LEASE_S), 1)}
        case "kill" | "shutdown":
            return {"place": choice.random()}
        case "freeze":
            return {"place": choice.random(), "seconds": round(choice.uniform(*PAST_THE_LEASE_S), 1)}
        case "postgres_restart":
            return {"how": choice.choice(["stop", "crash"]), "seconds": round(choice.uniform(0, 2), 1)}
        case "postgres_pause":
            return {"seconds": choice.choice([1.5, 5.0, PAST_THE_LEASE_S[0]])}
        case "temporal_restart":
            return {"how": choice.choice(["stop", "kill"]), "seconds": round(choice.uniform(0, 3), 1)}
        case "backend_kill":
            return {"bursts": 12, "at_once": choice.choice([1, 3, 20])}
        case "desk":
            fault = {
                "path": PATHS[choice.choice(["mail", "mail", "payments", "any"])],
                "kind": choice.choice(DESK_FAULTS),
                "times": choice.choice([1, 1, 2, 4]),
                "seconds": choice.choice([1.0, LONGER_THAN_A_TOOL_S]),
                "method": "POST",
            }
            return {"faults": [fault]}
        case "model":
            return {"faults": [{**choice.choice(MODEL_FAULTS), "times": choice.choice([1, 2, 4])}]}
    return {}
