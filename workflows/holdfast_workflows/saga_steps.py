"""Carrying out the steps of a code-defined saga: one activity each, named after the step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from holdfast import contracts, saga_contracts
from holdfast.contracts import Authorization
from holdfast.saga_contracts import ExecuteStep, SagaPlan, StepOutcome
from holdfast.states import CallStatus, Tier
from holdfast_sagas.steps import Role, Step
from holdfast_workflows.scheduling import options

BY_DECLARATION = Authorization(verdict="allow", rule="saga")
"""A code-defined saga's tools are allowed by whoever deployed it."""


class SagaSteps:
    """The `Driver` of a saga's body. `ran` has every step so far: its tool, and its outcome once it has one."""

    def __init__(self, plan: SagaPlan, trace: dict[str, str], changed: Callable[[], None]) -> None:
        assert plan.saga is not None
        self._plan = plan
        self._saga = plan.saga
        self._trace = trace
        self._changed = changed
        self._running: dict[str, workflow.ActivityHandle[StepOutcome]] = {}
        self.ran: dict[str, tuple[str, CallStatus | None]] = {}
        self.pivot: str | None = None
        """The step that was passed as pivot."""

    @property
    def saga_id(self) -> str:
        return self._saga.id

    @property
    def max_bytes(self) -> int:
        return saga_contracts.MAX_STEP_BYTES

    def now(self) -> datetime:
        return workflow.now()

    def cancel(self) -> None:
        """Ask what runs to stop: a write that was dispatched finishes, the rest is cancelled."""
        for handle in self._running.values():
            handle.cancel()

    async def execute(self, step: Step) -> StepOutcome:
        handle = self._start(step)
        self._running[step.name] = handle
        self.ran[step.name] = (step.tool, None)
        self._changed()
        try:
            outcome = await asyncio.shield(handle)  # the body may give up waiting; the step is settled all the same
        except ActivityError as error:
            outcome = self._lost(step, error)
        finally:
            self._running.pop(step.name, None)
        self.ran[step.name] = (step.tool, outcome.status)
        if step.role is Role.PIVOT and outcome.status is CallStatus.OK:
            self.pivot = step.name
        self._changed()
        return outcome

    def _start(self, step: Step) -> workflow.ActivityHandle[StepOutcome]:
        tool = self._plan.tool(step.tool)
        assert tool is not None, "every tool of a saga is in its catalogue"
        timeout = step.options.within
        request = ExecuteStep(
            saga=self._saga,
            step=step.name,
            tool=step.tool,
            args=step.args,
            catalogue=self._plan.catalogue,
            salt=self._plan.salt,
            attempts=step.options.attempts or tool.attempts,
            authorization=BY_DECLARATION,
            pivot=step.role is Role.PIVOT,
            timeout=timeout,
            trace=self._trace,
        )
        return workflow.start_activity(
            saga_contracts.execute_step,
            request,
            **options(
                step.name,
                f"{step.tool} as {step.role} `{step.name}`",
                (timeout or tool.timeout) + contracts.RECORD_MARGIN,
                lease=self._plan.lease,
                queue=self._plan.queues.tools,
            ),
        )

    def _lost(self, step: Step, error: ActivityError) -> StepOutcome:
        """What an activity leaves that failed for good: a read failed, a write is in doubt."""
        if is_cancelled_exception(error):
            return StepOutcome(status=CallStatus.CANCELLED, text="the saga is being stopped")
        tool = self._plan.tool(step.tool)
        read = tool is not None and tool.tier is Tier.READ
        return StepOutcome(
            status=CallStatus.ERROR if read else CallStatus.UNKNOWN,
            code="internal",
            text=f"the attempt was lost: {error.cause or error}"[:500],
        )
