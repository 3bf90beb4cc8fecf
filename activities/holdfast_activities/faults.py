"""Fault points: the moments at which losing the process would break a promise, by the promise's name.

In production each is a call of a function that does nothing. Only a composition root made for tests passes another
one in, which may kill or freeze this very process there.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias


class FaultPoint(StrEnum):
    """Those of an attempt in the order it passes them."""

    AFTER_CLAIM = "after_claim"
    """The intent stands in the ledger, and nothing was sent."""
    BEFORE_DISPATCH = "before_dispatch"
    """The next thing is to look whether the claim is still fresh, and to send."""
    AFTER_DISPATCH_BEFORE_RESPONSE = "after_dispatch_before_response"
    """The other side has answered, or begun to, and whoever asked has not seen it.

    A tool that does not use `ToolContext.http` does not pass here.
    """
    AFTER_RESPONSE_BEFORE_RECORD = "after_response_before_record"
    """It is known here alone what happened."""
    AFTER_RECORD_BEFORE_COMPLETION = "after_record_before_completion"
    """The ledger knows what happened, and Temporal does not."""
    AFTER_OPENING_BEFORE_TASK_COMPLETION = "after_opening_before_task_completion"
    """The session is open in the ledger, and Temporal does not know its plan: of `SESSION` alone, as the next."""
    AFTER_FLUSH_BEFORE_TASK_COMPLETION = "after_flush_before_task_completion"
    """The ledger was told what a workflow task decided, and the task is not completed."""


TASK_POINTS = (FaultPoint.AFTER_OPENING_BEFORE_TASK_COMPLETION, FaultPoint.AFTER_FLUSH_BEFORE_TASK_COMPLETION)
"""Those inside a workflow task."""
ATTEMPT_POINTS = tuple(point for point in FaultPoint if point not in TASK_POINTS)
"""Those that every attempt of a call or a turn passes."""

MODEL = "model"
SESSION = "session"
"""Whose fault point it is, where it is not a tool's."""

FaultPoints: TypeAlias = Callable[[FaultPoint, str], None]
"""Called with the point and with the tool's name, or `MODEL` or `SESSION`."""


def no_faults(point: FaultPoint, of: str) -> None:
    """Production's."""
