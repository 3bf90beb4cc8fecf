"""What a check saw, run by run, and what it says of the tool's declared class. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from holdfast.states import RecoveryClass, Tier

State = Literal["done", "failed", "unknown", "cancelled", "not settled"]

PROMISES = {
    RecoveryClass.RETRY: "Retry",
    RecoveryClass.IDEMPOTENT: "Idempotent",
    RecoveryClass.PROBE: "Probe",
    RecoveryClass.OPERATOR: "Operator",
    RecoveryClass.TRANSACTIONAL: "Transactional",
}


class Run(BaseModel):
    """One call of the tool, its worker lost at `point`; `point` is None for the run that nothing disturbs."""

    model_config = ConfigDict(frozen=True)

    point: str | None
    crashed: bool
    """False: the tool never passes this point, so its run went undisturbed."""
    attempts: int
    sent: int | None
    """Requests through `ToolContext.http`; None for a tool that sends in another way."""
    keys: int
    """Under so many different idempotency keys."""
    effects: int | None
    """How many effects more stand at the service, by the count that the user gave."""
    state: State
    seconds: float
    """From the call's beginning until it was settled."""
    effect_id: str


class Report(BaseModel):
    """The whole check. `problems` contradict the declared class; empty where it holds."""

    model_config = ConfigDict(frozen=True)

    tool: str
    recovery: RecoveryClass
    runs: tuple[Run, ...]
    problems: tuple[str, ...]
    verdict: str

    @property
    def ok(self) -> bool:
        return not self.problems


def judge(tool: str, tier: Tier, recovery: RecoveryClass, runs: Sequence[Run]) -> Report:
    """Args:
    runs: the undisturbed one first; it succeeded.
    """
    calm, crashes = runs[0], [run for run in runs[1:] if run.crashed]
    find = _of_a_read if tier is Tier.READ else _of_a_write
    problems = tuple(problem for run in (calm, *crashes) for problem in find(run, calm, recovery))
    name = PROMISES[recovery]
    if problems:
        verdict = f"`{tool}` declares {name}, and {_problem_words(problems)}."
    else:
        verdict = f"{name}: {_kept(tier, calm, crashes)}."
    return Report(tool=tool, recovery=recovery, runs=tuple(runs), problems=problems, verdict=verdict)


def _problem_words(problems: Sequence[str]) -> str:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return problems[0] + more


def _of_a_read(run: Run, calm: Run, recovery: RecoveryClass) -> list[str]:
    problems = _of_any(run)
    if run.effects:
        problems.append(f"it is a read, but its service did work{_at(run)}: {run.effects} more stand")
    return problems


def _of_a_write(run: Run, calm: Run, recovery: RecoveryClass) -> list[str]:
    problems = _of_any(run)
    if run.effects is None or calm.effects is None:
        if recovery is RecoveryClass.OPERATOR and (run.sent or 0) > (calm.sent or 0):
            problems.append(f"it was sent again{_at(run)}")
        return problems
    if run is calm:
        return problems
    if run.effects > calm.effects:
        times = "twice" if run.effects == 2 * calm.effects else f"{run.effects} times"
        problems.append(f"its service did the work {times}{_at(run)}")
    elif run.state == "done" and run.effects < calm.effects:
        problems.append(f"it is recorded as done{_at(run)}, and its service did not do it")
    elif run.state in ("failed", "cancelled") and run.effects:
        problems.append(f"it is recorded as {run.state}{_at(run)}, and its service did it")
    return problems


def _of_any(run: Run) -> list[str]:
    return [f"it was not settled in {run.seconds:.0f} s{_at(run)}"] if run.state == "not settled" else []


def _at(run: Run) -> str:
    return f" at `{run.point}`" if run.point else " although nothing was lost"


def _kept(tier: Tier, calm: Run, crashes: Sequence[Run]) -> str:
    """What held, in one sentence, of the crashes alone."""
    many = len(crashes)
    unknown = sum(run.state == "unknown" for run in crashes)
    again = sum((run.sent or 0) > (calm.sent or 0) for run in crashes)
    if tier is Tier.READ:
        return f"a read; it was answered at each of {many} crashes, and asked again at {again}"
    failed = sum(run.state in ("failed", "cancelled") for run in crashes)
    ends = [f"{unknown} of {many} crashes ended unknown and ask a person"] if unknown else []
    ends += [f"{failed} of {many} ended as failed, with nothing done"] if failed else []
    if calm.effects is not None:
        last = "never twice" if ends else f"at each of {many} crashes it happened once"
        return "; ".join([*ends, last])
    if not ends:
        ends.append(f"at each of {many} crashes it ended as done")
    if calm.sent is None:
        return "; ".join([*ends, "it does not send through `ToolContext.http`: only --count can tell how often"])
    if not again:
        return "; ".join([*ends, "nothing was sent twice"])
    keys = " under the same key" if all(run.keys <= 1 for run in crashes) else ""
    return "; ".join([*ends, f"it was sent again at {again}{keys}: --count tells whether its service did it once"])
