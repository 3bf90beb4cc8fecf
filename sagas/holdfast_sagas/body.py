"""What a saga's body works with: `step gather defer check pivot`.

Every rule that keeps a saga undoable is kept here and not left to the body: a body that swallows an exception, or
returns after its saga was stopped, changes nothing of how the saga ends.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from holdfast.ids import canonical
from holdfast.states import CallStatus
from holdfast.tools import Tool
from holdfast_sagas.steps import DECLARED, Driver, Role, Step, StepOptions, ToolName, tool_name
from holdfast_sagas.stopping import (
    CheckFailed,
    SagaHeld,
    SagaMisused,
    SagaStopped,
    StepCancelled,
    StepFailed,
    StepInDoubt,
    severity,
)

if TYPE_CHECKING:
    from holdfast.saga_contracts import StepOutcome
    from holdfast_sagas.declaring import SagaDefinition

STEP_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


class Saga:
    """One run of a body. Tools and names are checked when a step is asked for, before anything happens."""

    def __init__(self, definition: SagaDefinition, driver: Driver, *, past_pivot: bool = False) -> None:
        """Args:
        past_pivot: an earlier run of the same saga passed its pivot; its steps answer from their rows.
        """
        self._definition = definition
        self._driver = driver
        self._names: set[str] = set()
        self._deferred: list[Step] = []
        self._running = 0
        self._pivot: str | None = None
        self.past_pivot = past_pivot
        self.stopped: SagaStopped | None = None
        """Why no further step begins."""

    @property
    def id(self) -> str:
        return self._driver.saga_id

    @property
    def now(self) -> datetime:
        """The run's own time: the same in every replay."""
        return self._driver.now()

    @property
    def running(self) -> int:
        """How many steps are under way."""
        return self._running

    @property
    def deferred(self) -> tuple[Step, ...]:
        return tuple(self._deferred)

    async def step(self, name: str, tool: ToolName, options: StepOptions = DECLARED, /, **args: Any) -> Any:
        """Run one step and return what its tool returned, as the tool's own type.

        Raises:
            StepFailed: it did not happen. The body may go another way.
            SagaStopped: any other reason; the saga ends here.
        """
        return await self._run(self._planned(name, tool, Role.STEP, options, args))

    async def pivot(self, name: str, tool: ToolName, options: StepOptions = DECLARED, /, **args: Any) -> Any:
        """Run the step after which the saga is never undone, only tried further. It runs alone, and once.

        Raises as `step` does; a pivot that failed leaves the saga undoable.
        """
        step = self._planned(name, tool, Role.PIVOT, options, args)
        if self._pivot is not None:
            raise self._stop(SagaMisused(f"pivot `{name}`: the saga has a pivot already, `{self._pivot}`"))
        if self._running:
            raise self._stop(SagaMisused(f"pivot `{name}` runs alone: await the steps before it"))
        self._pivot = name
        return await self._run(step)

    def defer(self, name: str, tool: ToolName, options: StepOptions = DECLARED, /, **args: Any) -> None:
        """Leave a step that cannot be undone until the saga has committed. Its arguments are checked now."""
        self._deferred.append(self._planned(name, tool, Role.DEFERRED, options, args))

    def check(self, text: str, condition: bool) -> None:
        """Stop the saga unless the condition holds; `text` says what should: "the fare covers the hotel".

        Raises:
            CheckFailed: it does not hold; the saga unwinds.
        """
        if self._pivot is not None:
            raise self._stop(
                SagaMisused(f"check `{text}`: the pivot `{self._pivot}` is behind, so nothing can fail")
            )
        if not condition:
            raise self._stop(CheckFailed(f"check failed: {text}"))

    async def gather(self, *steps: Awaitable[Any]) -> list[Any]:
        """Run several at once; return their results in order.

        All are settled before anything is decided, so that no step is undone beside a living sibling.

        Raises the worst of what they raised.
        """
        settled = await asyncio.gather(*steps, return_exceptions=True)
        errors = [each for each in settled if isinstance(each, BaseException)]
        if errors:
            raise max(errors, key=severity)
        return settled

    async def run_deferred(self) -> None:
        """Run what was deferred, in order. Raises as `step` does."""
        for step in self._deferred:
            await self._run(step)

    def stop(self, why: SagaStopped) -> None:
        """Let no further step begin; what runs is settled first."""
        self.stopped = self.stopped or why

    def _stop(self, why: SagaStopped) -> SagaStopped:
        self.stop(why)
        return why

    async def _run(self, step: Step) -> Any:
        if self.stopped:
            raise self.stopped
        self._running += 1
        try:
            outcome = await self._driver.execute(step)
        finally:
            self._running -= 1
        return self._settled(step, outcome)

    def _settled(self, step: Step, outcome: StepOutcome) -> Any:
        said = outcome.text or outcome.code or str(outcome.status)
        if outcome.held:
            raise self._stop(SagaHeld(outcome.held))
        if outcome.status is CallStatus.UNKNOWN:
            raise self._stop(StepInDoubt(f"nobody knows whether step `{step.name}` happened: {said}"))
        if outcome.status is CallStatus.CANCELLED:
            raise self._stop(StepCancelled(f"step `{step.name}` was not begun: {said}"))
        if outcome.status is not CallStatus.OK:
            raise StepFailed(step.name, said, outcome.code or "failed")
        if step.role is Role.PIVOT:
            self.past_pivot = True
            self.stopped = None  # whoever wanted to stop came too late: now there is only forward
        if outcome.result is None and outcome.code and step.role is Role.STEP:
            raise self._stop(SagaMisused(f"step `{step.name}` landed, and cannot be built on: {said}"))
        return self._typed(step, outcome.result)

    def _typed(self, step: Step, result: Any) -> Any:
        tool = self._definition.tool(step.tool)
        if not isinstance(tool, Tool) or (result is None and step.role is not Role.STEP):
            return result  # a person may have said that it happened, and no more
        try:
            return tool.result.validate_json(canonical(result))
        except ValidationError as error:
            raise self._stop(
                SagaMisused(f"step `{step.name}`: what `{step.tool}` returned {_misfit(error)}")
            ) from error

    def _planned(
        self, name: str, tool: ToolName, role: Role, options: StepOptions, args: Mapping[str, Any]
    ) -> Step:
        if self.stopped:
            raise self.stopped
        if not STEP_NAME.fullmatch(name):
            raise self._stop(SagaMisused(f"step `{name}`: a name is 1 to 64 of a-z, 0-9, `_`, `.` and `-`"))
        if name in self._names:
            raise self._stop(SagaMisused(f"step `{name}`: the saga has a step of this name; number them in a loop"))
        if not self._definition.allows(tool, role):
            known = ", ".join(f"`{tool_name(each)}`" for each in self._definition.tools_as(role)) or "none"
            raise self._stop(
                SagaMisused(
                    f"step `{name}`: `{tool_name(tool)}` is not declared as {role} of the saga; it has {known}"
                )
            )
        self._names.add(name)
        plain = self._checked(name, tool, args)
        return Step(name=name, tool=tool_name(tool), role=role, args=plain, options=options)

    def _checked(self, name: str, tool: ToolName, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments as JSON values, fit for the tool."""
        try:
            plain = _plain(tool, args)
            size = len(canonical(plain))
        except ValidationError as error:
            raise self._stop(SagaMisused(f"step `{name}`: an argument {_misfit(error)}")) from error
        except (TypeError, ValueError) as error:
            raise self._stop(SagaMisused(f"step `{name}`: an argument is no JSON: {error}")) from error
        if size > self._driver.max_bytes:
            raise self._stop(
                SagaMisused(
                    f"step `{name}`: its arguments have {size:,} bytes, at most {self._driver.max_bytes:,} fit; "
                    "put the material where the tool can read it and pass its name"
                )
            )
        return plain


def _plain(tool: ToolName, args: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(tool, str):
        return {
            key: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for key, value in args.items()
        }
    return tool.arguments.model_validate(dict(args)).model_dump(mode="json", exclude_unset=True)


def _misfit(error: ValidationError) -> str:
    return "does not fit: " + "; ".join(
        f"`{'.'.join(map(str, each['loc']))}`: {each['msg']}" for each in error.errors(include_url=False)
    )
