"""`SagaRun`: the forward side of a code-defined saga.

It runs the body, one activity a step. Before the pivot whatever stops it (a failing step, a check, an abort, a
Temporal cancel, a mistake in the body) has it unwound by an `Unwind` that outlives it; after the pivot it ends as
FORWARD_PENDING, and the same saga started again goes on from the steps that landed. How a saga ends is a result:
the workflow itself fails only where the saga could not begin.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from pydantic import ValidationError
from temporalio import workflow
from temporalio.exceptions import ApplicationError

from holdfast import saga_contracts
from holdfast.errors import DeclarationError
from holdfast.messages import Command, Receipt
from holdfast.saga_contracts import EndSaga, OpenSaga, SagaInput, SagaPlan, SagaResult, UnwindInput
from holdfast.states import SagaState
from holdfast_sagas import Saga, SagaDefinition, SagaMisused, SagaStopped
from holdfast_sagas.registry import served
from holdfast_sagas.stopping import SagaHeld, StepCancelled
from holdfast_workflows.lenient import read_signal
from holdfast_workflows.mailbox import Refusal
from holdfast_workflows.saga_display import saga_details, show_saga
from holdfast_workflows.saga_steps import SagaSteps
from holdfast_workflows.scheduling import SHORT, options
from holdfast_workflows.unwind_child import unwound

ENDED = (SagaState.COMMITTED, SagaState.ABORTED, SagaState.HELD, SagaState.STUCK)
"""Where another run of the same saga has nothing to do."""


@workflow.defn(name=saga_contracts.SAGA_WORKFLOW)
class SagaRun:
    @workflow.init
    def __init__(self, start: Any) -> None:
        self._plan = SagaPlan()
        self._name = ""
        self._state = SagaState.OPEN
        self._steps: SagaSteps | None = None
        self._saga: Saga | None = None
        self._abort: Command | None = None
        self._cancelled = False

    @workflow.run
    async def run(self, start: Any) -> SagaResult:
        work = asyncio.create_task(self._work(_read(start)))
        while not work.done():
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                if work.done():
                    raise
                self._cancelled = True  # the work goes on until the saga has ended
                self._stop("cancelled from Temporal", forward=True)
        result = work.result()
        await workflow.wait_condition(workflow.all_handlers_finished)
        if self._cancelled and result.outcome is not SagaState.COMMITTED:
            raise asyncio.CancelledError
        return result

    @workflow.update(name="abort", description="Stop this saga and undo what it did; refused past its pivot")
    def abort(self, command: Command) -> Receipt:
        self._take_abort(command)
        return Receipt(id=command.id, detail="what it did is being undone")

    @abort.validator
    def _check_abort(self, command: Command) -> None:
        if (reason := self._no_abort()) is not None:
            raise ApplicationError(reason, type="not_abortable", non_retryable=True)

    @workflow.signal(name="abort", description="Stop this saga and undo what it did: {by, reason}")
    def abort_signal(self, payload: Any = None) -> None:
        with contextlib.suppress(Refusal):  # what makes no sense changes nothing
            command = read_signal(
                Command, payload, fallback_id=f"signal-{workflow.info().get_current_history_length()}"
            )
            if self._no_abort() is None:
                self._take_abort(command)

    async def _work(self, start: SagaInput) -> SagaResult:
        definition = _find(start.name, start.version)
        given = _arguments(definition, start.args)
        plan = self._plan = await self._open(definition, start)
        if plan.refused or plan.saga is None:
            raise ApplicationError(
                plan.refused or "the saga was not opened", type="saga_refused", non_retryable=True
            )
        if plan.version and plan.version != definition.version:
            definition = _find(start.name, plan.version)
        self._name, self._state = f"{definition.name} {definition.version}", plan.state
        show_saga(plan.state, enabled=plan.search_attributes)
        if plan.state in ENDED:
            return self._ended(SagaResult(outcome=plan.state, result=plan.result, reason=plan.reason))
        if plan.state is SagaState.UNWINDING:
            return await self._unwind(plan.reason or "it was being unwound")
        if plan.args is not None:
            given = _arguments(definition, plan.args)
        return await self._run(definition, given, dict(start.trace))

    async def _run(self, definition: SagaDefinition, given: Any, trace: dict[str, str]) -> SagaResult:
        self._steps = SagaSteps(self._plan, trace, self._show)
        saga = self._saga = Saga(definition, self._steps, past_pivot=self._plan.past_pivot)
        if self._abort or self._cancelled:
            self._stop(self._why(), forward=self._cancelled)
        result = await self._forward(definition, saga, given)
        if saga.stopped is None:
            return await self._end(SagaState.COMMITTED, result=result)
        why = str(saga.stopped)
        if isinstance(saga.stopped, SagaHeld):
            return self._ended(SagaResult(outcome=SagaState.HELD, reason=why))
        if saga.past_pivot:
            return await self._end(SagaState.FORWARD_PENDING, reason=why)
        return await self._unwind(why)

    async def _forward(self, definition: SagaDefinition, saga: Saga, given: Any) -> Any:
        """Run the body, then what it deferred. Whatever stops either is in `saga.stopped`."""
        result = await self._attempt(saga, self._body(definition, saga, given))
        if saga.stopped is not None:
            return None
        saga.past_pivot = True  # from here on nothing is undone
        if saga.deferred and await self._tell(SagaState.COMMITTING, result=result) is SagaState.COMMITTING:
            await self._attempt(saga, saga.run_deferred())
        return result

    async def _body(self, definition: SagaDefinition, saga: Saga, given: Any) -> Any:
        returned = await definition.body(saga, given)
        if not isinstance(returned, definition.output):
            raise SagaMisused(f"it returned a {type(returned).__name__}, not a {definition.output.__name__}")
        return returned.model_dump(mode="json")

    async def _attempt(self, saga: Saga, work: Any) -> Any:
        """Run a part of the saga until it ends, or the saga is stopped and what runs is settled."""
        task = asyncio.create_task(work)
        await workflow.wait_condition(lambda: task.done() or (saga.stopped is not None and not saga.running))
        if not task.done():
            task.cancel()  # it waits for something else than a step
        ended: Any = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(ended, SagaStopped):
            saga.stop(ended)
        elif isinstance(ended, BaseException):
            saga.stop(SagaMisused(f"a mistake in the saga: {type(ended).__name__}: {ended}"[:500]))
        elif saga.running:
            saga.stop(SagaMisused("its body returned while a step was running; await every step"))
        if saga.running and self._steps:
            self._steps.cancel()
            await workflow.wait_condition(lambda: not saga.running)
        return None if saga.stopped else ended

    def _stop(self, why: str, *, forward: bool = False) -> None:
        """Let no further step begin. `forward`: also past the pivot, where it is tried further another time."""
        if self._saga is None or self._steps is None or (self._saga.past_pivot and not forward):
            return
        self._saga.stop(StepCancelled(why))
        self._steps.cancel()

    def _take_abort(self, command: Command) -> None:
        if self._abort is None:
            self._abort = command
            self._stop(self._why())

    def _why(self) -> str:
        if self._abort is None:
            return "cancelled from Temporal"
        return f"aborted by {self._abort.by}" + (f": {self._abort.reason}" if self._abort.reason else "")

    def _no_abort(self) -> str | None:
        if self._saga is not None and self._saga.past_pivot:
            at = f"pivot `{self._steps.pivot}`" if self._steps and self._steps.pivot else "pivot"
            return (
                f"the saga is past its {at}, so nothing is undone any more; what is left of it is tried further. "
                "Cancel it to stop trying: it is then FORWARD_PENDING, and started again it goes on"
            )
        if self._state is not SagaState.OPEN:
            return f"the saga is {self._state}; there is nothing left to abort"
        return None

    async def _open(self, definition: SagaDefinition, start: SagaInput) -> SagaPlan:
        info = workflow.info()
        opening = OpenSaga(
            saga_id=info.workflow_id,
            run_id=info.first_execution_run_id,
            name=definition.name,
            version=definition.version,
            source=definition.source,
            tools=definition.references,
            principal=start.principal,
            parent=start.parent,
            args=start.args,
            started_at=info.start_time,
            trace=start.trace,
        )
        return await workflow.execute_activity(
            saga_contracts.open_saga,
            opening,
            **options("open", f"open saga {definition.name} {definition.version}", SHORT),
        )

    async def _unwind(self, reason: str) -> SagaResult:
        self._state = SagaState.UNWINDING
        self._show(reason)
        show_saga(self._state, enabled=self._plan.search_attributes)
        saga_id = workflow.info().workflow_id
        by = self._abort.by if self._abort else "saga"
        found = await unwound(UnwindInput(session_id=saga_id, saga_id=saga_id, reason=reason, by=by))
        return self._ended(
            SagaResult(
                outcome=found.outcome,
                reason=f"{reason}; {found.reason}" if found.reason else reason,
                undone=found.undone,
                standing=found.standing,
            )
        )

    async def _end(self, state: SagaState, *, reason: str = "", result: Any = None) -> SagaResult:
        stands = await self._tell(state, reason=reason, result=result)
        if stands is SagaState.UNWINDING:
            return await self._unwind(reason or "somebody else began to unwind it")
        return self._ended(SagaResult(outcome=stands, result=result, reason=reason))

    async def _tell(self, state: SagaState, *, reason: str = "", result: Any = None) -> SagaState:
        assert self._plan.saga is not None
        ending = EndSaga(saga=self._plan.saga, state=state, reason=reason, at=workflow.now(), result=result)
        self._state = await workflow.execute_activity(
            saga_contracts.end_saga,
            ending,
            **options(f"end-{state.lower()}", f"{state}: {reason}" if reason else str(state), SHORT),
        )
        self._show(reason)
        return self._state

    def _ended(self, result: SagaResult) -> SagaResult:
        self._state = result.outcome
        self._show(result.reason)
        show_saga(result.outcome, enabled=self._plan.search_attributes)
        return result

    def _show(self, reason: str = "") -> None:
        steps = self._steps
        workflow.set_current_details(
            saga_details(
                self._name,
                self._state,
                self._plan,
                steps.ran if steps else {},
                pivot=steps.pivot if steps else None,
                reason=reason,
            )
        )


def _read(start: Any) -> SagaInput:
    checked: SagaInput = _valid(SagaInput, start, "the input of a saga is {name, version, args, principal}")
    return checked


def _arguments(definition: SagaDefinition, args: Any) -> Any:
    return _valid(definition.input, dict(args), f"the arguments of saga `{definition.name}` do not fit")


def _valid(model: Any, value: Any, otherwise: str) -> Any:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fields = "; ".join(f"`{'.'.join(map(str, e['loc'])) or 'input'}`: {e['msg']}" for e in error.errors())
        raise ApplicationError(f"{otherwise}: {fields}", type="invalid", non_retryable=True) from error


def _find(name: str, version: str | None) -> SagaDefinition:
    try:
        return served().find(name, version)
    except DeclarationError as error:
        raise ApplicationError(str(error), type="unknown_saga", non_retryable=True) from error
