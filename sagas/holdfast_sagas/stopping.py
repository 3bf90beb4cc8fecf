"""Why a saga's body stops. A body may catch `StepFailed`, since nothing of that step stands; after the others the
saga unwinds (past its pivot: waits to be tried further), whatever the body does with them.
"""

from __future__ import annotations

from holdfast.errors import HoldfastError


class SagaStopped(HoldfastError):
    """The saga goes no further."""

    code = "stopped"
    severity = 2
    """Of several that ended together the worst is raised: unknown, then a bug, then failed, then cancelled."""


class StepFailed(SagaStopped):
    """The step did not happen, and will not. `step` is its name."""

    code = "failed"

    def __init__(self, step: str, said: str, code: str = "failed") -> None:
        super().__init__(f"step `{step}` failed: {said}")
        self.step = step
        self.said = said
        self.code = code


class StepCancelled(SagaStopped):
    """The step was not begun, since the saga is being stopped."""

    code = "cancelled"
    severity = 1


class CheckFailed(SagaStopped):
    """A condition of the saga does not hold."""

    code = "check"


class SagaMisused(SagaStopped):
    """The body did what no saga may: a mistake of its author."""

    code = "misused"
    severity = 3


class StepInDoubt(SagaStopped):
    """Nobody knows whether the step happened."""

    code = "unknown"
    severity = 4


class SagaHeld(SagaStopped):
    """Postgres does not have what the saga stands on."""

    code = "held"
    severity = 5


def severity(error: BaseException) -> int:
    """How bad this is among siblings. An exception of the author's own is a bug; a cancelled task is no failure."""
    if isinstance(error, SagaStopped):
        return error.severity
    return SagaMisused.severity if isinstance(error, Exception) else 0
