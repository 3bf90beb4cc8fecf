"""A step as data, and the seam through which a body has it carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.durations import duration
from holdfast.tools import Tool

if TYPE_CHECKING:
    from holdfast.saga_contracts import StepOutcome

ToolName = Tool | str
"""A declared tool, or the name under which the worker's tool book has it, e.g. "write_file"."""


class Role(StrEnum):
    """What a tool may do in a saga; an author names the tools of each role where the saga is declared."""

    STEP = "step"
    PIVOT = "pivot"
    DEFERRED = "deferred"


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """What one step wants otherwise than its tool declares, as in
    `s.step("seat", hold_seat, StepOptions(attempts=2), flight_id=...)`."""

    attempts: int | None = None
    timeout: timedelta | str | None = None

    @property
    def within(self) -> timedelta | None:
        return None if self.timeout is None else duration(self.timeout)


DECLARED = StepOptions()


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of one run. `name` is unique in the saga and names the effect; `args` are JSON values."""

    name: str
    tool: str
    role: Role
    args: Mapping[str, Any]
    options: StepOptions = DECLARED


class Driver(Protocol):
    """Carries out steps: `SagaRun` through activities."""

    @property
    def saga_id(self) -> str: ...

    @property
    def max_bytes(self) -> int:
        """Of one step's arguments as JSON."""

    def now(self) -> datetime: ...

    async def execute(self, step: Step) -> StepOutcome:
        """Settle the step, whatever it takes. Raises nothing for what the step did."""


def tool_name(tool: ToolName) -> str:
    return tool if isinstance(tool, str) else tool.name
