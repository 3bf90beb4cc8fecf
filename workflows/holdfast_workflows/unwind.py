"""`Unwind`: undoes what a saga did, newest first, and says what stands.

It needs nothing of the forward side, which may be dead: its first activity fences that off and reads the plan from
Postgres. It waits for no person: HELD and STUCK are results, and what a person then decides starts it again.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from holdfast import contracts, saga_contracts
from holdfast.contracts import SagaRef
from holdfast.saga_contracts import (
    BeginUnwind,
    EndUnwind,
    SettleEffect,
    StepOutcome,
    StepPlan,
    UnwindInput,
    UnwindPlan,
    UnwindResult,
)
from holdfast.states import CallStatus, EffectState, SagaState
from holdfast_sagas import unwinding
from holdfast_sagas.unwinding import Compensate, Finish, Settle, Wait, label
from holdfast_workflows.saga_display import show_saga, unwind_details
from holdfast_workflows.scheduling import SHORT, options

UNDONE = {
    CallStatus.OK: EffectState.DONE,
    CallStatus.ERROR: EffectState.FAILED,
    CallStatus.DENIED: EffectState.FAILED,
    CallStatus.UNKNOWN: EffectState.UNKNOWN,
}
"""What a compensation's outcome makes of it; after any other the plan is read again."""
REFUSED_AS = {
    "committed": SagaState.COMMITTED,
    "aborted": SagaState.ABORTED,
    "pivot": SagaState.FORWARD_PENDING,
    "taken": SagaState.UNWINDING,
    "missing": SagaState.HELD,
}
LOOK_AGAIN = timedelta(seconds=1)


@workflow.defn(name=saga_contracts.UNWIND_WORKFLOW)
class Unwind:
    @workflow.init
    def __init__(self, start: UnwindInput) -> None:
        self._start = start
        self._plan = UnwindPlan()
        self._steps: dict[str, StepPlan] = {}
        self._looks = 0
        self._in_vain = 0
        """Looks because something did not go as planned; each waits longer."""
        self._rounds = 0
        """Of settling; an activity id names each."""

    @workflow.run
    async def run(self, start: UnwindInput) -> UnwindResult:
        await self._look()
        while not self._plan.refused:
            workflow.set_current_details(unwind_details(start, self._steps.values()))
            match unwinding.next_move(self._steps.values()):
                case Wait(pause):
                    await workflow.sleep(pause, summary="an attempt of a step may be alive")
                    await self._look()
                case Settle(steps, pause):
                    await self._settle(steps, pause)
                case Compensate() as move:
                    await self._compensate(move)
                case Finish(state, reason):
                    if (stands := await self._end(state, reason)) is not SagaState.UNWINDING:
                        return self._result(stands, reason if stands is state else "")
                    await self._look_again()  # something landed late
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(start)
        code = self._plan.refused_code
        return self._result(REFUSED_AS[code] if code else self._plan.state, self._plan.refused)

    async def _look(self) -> None:
        """Read the plan; the first look fences the forward side off."""
        first = self._looks == 0
        begin = BeginUnwind(
            session_id=self._start.session_id,
            saga_id=self._start.saga_id,
            unwinder=workflow.info().run_id,
            epoch=None if first else self._plan.epoch,
            reason=self._start.reason,
            by=self._start.by,
        )
        self._plan = await workflow.execute_activity(
            saga_contracts.begin_unwind,
            begin,
            **options("begin" if first else f"look-{self._looks}", f"unwind {self._start.saga_id}", SHORT),
        )
        self._looks += 1
        self._steps = {step.effect_id: step for step in self._plan.steps}
        if first and not self._plan.refused:
            show_saga(SagaState.UNWINDING, enabled=self._plan.search_attributes)

    async def _look_again(self) -> None:
        if self._in_vain:
            await workflow.sleep(min(self._in_vain, 30) * LOOK_AGAIN, summary="before the plan is read again")
        self._in_vain += 1
        await self._look()

    async def _settle(self, steps: tuple[StepPlan, ...], pause: timedelta) -> None:
        if pause:
            await workflow.sleep(pause, summary="before a step in doubt is asked about again")
        self._rounds += 1
        asked = [self._ask(step) for step in steps]
        for step, handle in zip(steps, asked, strict=True):
            try:
                await handle
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                workflow.logger.warning("a step in doubt could not be asked about", extra={"step": label(step)})
        tried = {step.effect_id: step.settle_tried + 1 for step in steps}
        await self._look()
        for effect_id, count in tried.items():  # at least this often, whatever was recorded of it
            if (found := self._steps.get(effect_id)) is not None:
                self._steps[effect_id] = found.model_copy(update={"settle_tried": max(found.settle_tried, count)})

    def _ask(self, step: StepPlan) -> workflow.ActivityHandle[EffectState]:
        return workflow.start_activity(
            saga_contracts.settle_effect,
            SettleEffect(
                session_id=self._start.session_id,
                saga=self._saga,
                effect_id=step.effect_id,
                call=step.call,
                tool=step.tool,
                catalogue=self._plan.catalogue,
            ),
            **options(
                f"settle-{self._rounds}-{step.call}.{step.tool}",
                f"did {label(step)} happen?",
                step.undo_timeout + contracts.RECORD_MARGIN,
                lease=self._plan.lease,
                queue=self._plan.queues.tools,
            ),
        )

    async def _compensate(self, move: Compensate) -> None:
        step = move.step
        request = saga_contracts.Compensate(
            session_id=self._start.session_id,
            saga=self._saga,
            undo_of=step.effect_id,
            call=step.call,
            tool=move.undo,
            version=step.undo_version or "",
            unknown=move.unknown,
            catalogue=self._plan.catalogue,
            by=self._start.by,
            trace=self._start.trace,
        )
        try:
            outcome = await workflow.execute_activity(
                saga_contracts.compensate,
                request,
                **options(
                    f"compensate-{step.call}.{step.tool}",
                    f"undo {label(step)} by {move.undo}",
                    step.undo_timeout + contracts.RECORD_MARGIN,
                    lease=self._plan.lease,
                    queue=self._plan.queues.tools,
                ),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            outcome = StepOutcome(
                status=CallStatus.UNKNOWN, text=f"the attempt was lost: {error.cause or error}"[:500]
            )
        state = UNDONE.get(outcome.status)
        if outcome.held or state is None:
            await self._look_again()
            return
        said = {
            "undo_state": state,
            "undo_said": "" if state is EffectState.DONE else outcome.text or outcome.code or "",
        }
        self._steps[step.effect_id] = step.model_copy(update=said)

    async def _end(self, state: SagaState, reason: str) -> SagaState:
        ending = EndUnwind(
            session_id=self._start.session_id,
            saga_id=self._start.saga_id,
            epoch=self._plan.epoch,
            state=state,
            reason=reason,
        )
        return await workflow.execute_activity(
            saga_contracts.end_unwind, ending, **options("end", f"{state}: {reason or 'nothing stands'}", SHORT)
        )

    def _result(self, state: SagaState, reason: str | None) -> UnwindResult:
        steps = self._steps.values()
        workflow.set_current_details(unwind_details(self._start, steps, state, reason or ""))
        show_saga(state, enabled=self._plan.search_attributes)
        return UnwindResult(
            outcome=state,
            reason=reason or "",
            undone=unwinding.undone(steps),
            standing=unwinding.standing(steps),
        )

    @property
    def _saga(self) -> SagaRef:
        return SagaRef(id=self._start.saga_id, epoch=self._plan.epoch)
