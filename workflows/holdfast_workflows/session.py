"""`AgentSession`: one conversation with an agent, as one workflow chain.

The main loop works on one request at a time; handlers only fill the mailbox. All state is `SessionState`, so
continue-as-new may happen whenever no activity is in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from holdfast import contracts
from holdfast.contracts import CloseSession, ModelTurn, OpenSession, TurnResult
from holdfast.facts import Fact, Kind
from holdfast.messages import SESSION_WORKFLOW, Command, SessionResult
from holdfast.states import SessionStatus
from holdfast_workflows import calls, requests
from holdfast_workflows.alarm import Alarm
from holdfast_workflows.display import Display
from holdfast_workflows.handlers import Handlers
from holdfast_workflows.outbox import Outbox
from holdfast_workflows.running import RunningCalls
from holdfast_workflows.scheduling import SHORT, briefly, options
from holdfast_workflows.state import OpenCall, OpenRequest, OpenTurn, SessionState
from holdfast_workflows.unwinding import SagaEnd, Unwinding

_TURN = "turn"


@workflow.defn(name=SESSION_WORKFLOW)
class AgentSession(Handlers):
    @workflow.init
    def __init__(self, start: Any, carried: SessionState | None = None) -> None:
        # `start` is refused in `run`: raising here would fail the workflow task for ever, not the session
        super().__init__(carried or requests.new_session(start, workflow.info(), workflow.now()))
        self.state.run = workflow.info().run_id[:13]
        self.outbox = Outbox(self.state)
        self.display = Display(self.state)
        self.alarm = Alarm()
        self._running = RunningCalls(self.state, self.outbox)
        self._unwinding = Unwinding(self.state, self.display, self.outbox)

    @workflow.run
    async def run(self, start: Any, carried: SessionState | None = None) -> SessionResult:
        if carried is None:
            requests.read_start(start)
        try:
            await self._open()
            while not self._over():
                self._continue_as_new_if_due()
                await self._step()
                if workflow.cancellation_reason() is not None:
                    raise asyncio.CancelledError  # an activity that finished anyway swallows the request
        except BaseException as error:
            if not is_cancelled_exception(error):
                raise
            await self._cancelled()
            raise
        return await self._end()

    async def _step(self) -> None:
        request = self.state.request
        if request is None:
            await self._next_request()
        elif request.held:
            await self._wait_while_held(request)
        elif request.turn is None:
            await self._model_turn(request)
        else:
            await self._settle_calls(request, request.turn)

    async def _open(self) -> None:
        state = self.state
        if state.plan is not None:
            self.display.show(state.status, state.reason)
            return
        info = workflow.info()
        opening = OpenSession(
            session_id=info.workflow_id,
            run_id=info.first_execution_run_id,
            agent=state.agent,
            principal=state.principal,
            limits=state.limits,
            started_at=state.started_at,
        )
        self.display.show(SessionStatus.RUNNING)
        plan = await briefly(contracts.open_session, opening, "open", f"open a session of agent {state.agent}")
        if plan.refused:
            raise ApplicationError(plan.refused, type="session_refused", non_retryable=True)
        state.plan = plan
        self.display.show(SessionStatus.RUNNING)

    async def _next_request(self) -> None:
        state = self.state
        assert state.plan is not None
        if state.queue:
            requests.open_request(state, workflow.info().workflow_id, workflow.now())
            return
        if state.close_when_idle:
            self._close_because("")
            return
        self.display.show(SessionStatus.IDLE, state.reason)
        await self.outbox.flush()
        deadline = workflow.now() + state.plan.limits.idle_timeout
        while not (state.queue or state.close) and workflow.now() < deadline:
            await self.alarm.wait(lambda: bool(state.queue or state.close), until=deadline, why="idle timeout")
        if not (state.queue or state.close):
            self._close_because("no message within the idle timeout")

    async def _model_turn(self, request: OpenRequest) -> None:
        await self._check_limits(request)
        if self._stopping():
            await self._stop_request(request)
            return
        if request.final_done:
            self._finish_request(request, SessionStatus.COMPLETED)
            return
        requests.take_steering(self.state, workflow.now())
        self.display.show(SessionStatus.RUNNING)
        turn = requests.model_turn(self.state, request, workflow.info().workflow_id)
        try:
            result = await self._ask_model(turn)
        except ActivityError as error:
            self.outbox.ended(_TURN, told=False)
            if not is_cancelled_exception(error):
                raise
            await self._stop_request(request)  # stopped before it said anything
            return
        self.outbox.ended(_TURN, told=result.held is None)
        await self._after_turn(request, turn, result)

    async def _ask_model(self, turn: ModelTurn) -> TurnResult:
        plan = self.state.plan
        assert plan is not None
        summary = f"turn {turn.turn}: {plan.model}" + (", the last" if turn.final else "")
        if turn.summary:
            summary = f"turn {turn.turn}: {plan.summary_model} sums up the conversation"
        name, queue = f"turn-{turn.turn}", plan.queues.model
        handle = workflow.start_activity(
            contracts.model_turn,
            turn.model_copy(update={"outbox": self.outbox.board(_TURN)}),
            **options(name, summary, contracts.MODEL_TIMEOUT, lease=plan.lease, queue=queue),
        )
        with contextlib.suppress(asyncio.CancelledError):  # by a Temporal cancel: `run` goes on from it
            await workflow.wait_condition(lambda: handle.done() or self._stopping())
        if not handle.done():
            handle.cancel()
        return await handle

    async def _after_turn(self, request: OpenRequest, turn: ModelTurn, result: TurnResult) -> None:
        state = self.state
        if result.held:
            request.held = result.held
            return
        state.spend = state.spend.with_lost(result.lost)
        if result.failed:
            await self._give_up(request, SessionStatus.FAILED, result.failed)
            return
        open_calls = requests.record_turn(state, request, turn, result)
        if turn.summary:
            return
        if open_calls:
            request.turn = calls.open_turn(state, turn.turn, turn.head, open_calls, workflow.now())
        elif not self._stopping() and requests.is_over(state, request, result):
            if state.reason:
                await self._give_up(request, SessionStatus.FAILED, state.reason)
            else:
                self._finish_request(request, SessionStatus.COMPLETED, committed=result.committed)

    async def _settle_calls(self, request: OpenRequest, turn: OpenTurn) -> None:
        """Run what may run and wait for the rest, until every call is settled."""
        while not all(call.settled for call in turn.calls):
            if self._stopping():
                await self._stop_request(request)
                return
            self._absorb(turn)
            if aborting := calls.aborting(turn):
                await self._abort_request(request, aborting)
                continue
            self.display.show(*calls.waiting_for(turn))
            if not request.held:
                self._running.schedule(turn)
            if request.held and not self._running:
                return
            if all(call.settled for call in turn.calls):
                break
            if not request.held and (older := await self.outbox.flush()):
                request.held = older
                continue
            if not self._running and self._should_continue_as_new():
                self._running.stop_probing()
                return  # nothing is in flight: the next run goes on waiting
            await self.alarm.wait(
                lambda: self._has_news(turn), until=calls.next_wake(turn), why="an approval expires, or a wait ends"
            )
        self._running.stop_probing()
        self.state.incoming.append(turn.results())
        request.turn = None

    def _absorb(self, turn: OpenTurn) -> None:
        """Take in what came since the last look: decisions, answers, resolutions, finished calls."""
        state, now = self.state, workflow.now()
        self._running.take_finished(turn)
        if state.close:
            calls.cancel_open(state, turn, "the session is being closed", now, self._running.numbers)
        calls.answer_question(state, turn)
        calls.apply_decisions(state, turn, now)
        self._running.take_answers(turn)
        for resolve in state.resolved:
            calls.apply_resolution(turn, resolve)
            if resolve.what == "probe":
                self._running.probe_now(resolve.call)
        state.resolved.clear()

    def _has_news(self, turn: OpenTurn) -> bool:
        state = self.state
        return bool(
            self._stopping()
            or (not self._running and self._should_continue_as_new())
            or (state.close and any(not c.settled and c.number not in self._running.numbers for c in turn.calls))
            or state.resolved
            or self._running.has_news()
            or calls.has_answer(state, turn)
        )

    def _stopping(self) -> bool:
        return bool(self.state.abort or self.state.interrupt or workflow.cancellation_reason() is not None)

    async def _stop_request(self, request: OpenRequest) -> SagaEnd | None:
        """End the open request now: what it did is kept when interrupted, undone when aborted or cancelled."""
        state = self.state
        how, command = requests.stopped_by(state, cancelled=workflow.cancellation_reason() is not None)
        reason = requests.stopped(how, command)
        self._running.stop_probing()
        if request.turn is not None:
            await self._running.stop(request.turn)
            calls.cancel_open(state, request.turn, reason, workflow.now())
            state.incoming.append(request.turn.results())
            request.turn = None
        ended = None
        if how == "aborted":
            ended = await self._give_up(
                request, SessionStatus.ABORTED, reason, by=command.by if command else "temporal"
            )
        else:
            self._finish_request(request, SessionStatus.COMPLETED, reason=reason)
        state.abort = state.interrupt = None
        return ended

    async def _give_up(
        self, request: OpenRequest, outcome: SessionStatus, reason: str, *, by: str = "session"
    ) -> SagaEnd | None:
        """End the request without its goal: do with what it did what policy says, and tell."""
        ended = await self._unwinding.undo(request, reason, by)
        if ended is not None:
            requests.tell_model(self.state, request, f"the request before was stopped ({reason}); {ended.told}")
            reason = f"{reason}; {ended.told}"
        self._finish_request(request, outcome, reason=reason, ended=ended)
        return ended

    async def _abort_request(self, request: OpenRequest, aborting: list[OpenCall]) -> None:
        """The model gave the request up. It goes on, in a saga of its own, e.g. to tell the customer."""
        why = aborting[0].aborts
        ended = await self._unwinding.undo(request, f"aborted by the model: {why}", "model")
        for call in aborting:
            calls.settle_abort(call, ended)
        if ended is not None and ended.how == "ended":
            requests.next_saga(self.state, request, workflow.info().workflow_id)

    def _finish_request(
        self,
        request: OpenRequest,
        outcome: SessionStatus,
        *,
        reason: str = "",
        committed: bool = False,
        ended: SagaEnd | None = None,
    ) -> None:
        self.state.reason = reason
        requests.close_request(
            self.state, request, outcome=outcome, now=workflow.now(), committed=committed, ended=ended
        )
        if request.final:
            self._close_because(request.final)

    async def _wait_while_held(self, request: OpenRequest) -> None:
        """Postgres does not have what the session stands on: run nothing until a person says so."""
        state = self.state
        self.display.show(SessionStatus.HELD, requests.why_held(request))
        await self.outbox.flush(keep=True)
        await workflow.wait_condition(
            lambda: self._stopping() or bool(state.resolved or state.close) or self._should_continue_as_new()
        )
        if self._stopping() or state.close:
            await self._stop_request(request)
        elif state.resolved:
            state.resolved.clear()
            request.held = None

    async def _check_limits(self, request: OpenRequest) -> None:
        """Make the next turn the last one where a limit is reached or the session is being closed.

        A request that used up the session's limits is unwound before it, so that the last turn can tell.
        """
        state = self.state
        assert state.plan is not None
        if request.final:
            return
        if state.close:
            request.final = requests.stopped("closed", state.close)
            return
        reason = requests.limit_reached(state, workflow.now())
        if reason is None:
            return
        request.final = reason
        request.final_done = state.plan.limits.at_end == "stop"
        state.outbox.append(
            Fact(
                key=f"limit:{state.run}:{state.turn}",
                kind=Kind.LIMIT_REACHED,
                at=workflow.now(),
                turn=state.turn,
                body={
                    "reason": reason,
                    "spent": state.spend.model_dump(mode="json"),
                    "limits": state.plan.limits.model_dump(mode="json", exclude_none=True),
                },
            )
        )
        ended = await self._unwinding.undo(request, reason, "session")
        if ended is not None:
            request.final = f"{reason}; {ended.told}"
            if ended.how == "ended":
                requests.next_saga(state, request, workflow.info().workflow_id)

    def _close_because(self, reason: str) -> None:
        if self.state.close is None:
            self.state.close = Command(id="self", by="session", reason=reason)

    def _over(self) -> bool:
        return self.state.close is not None and self.state.request is None

    async def _cancelled(self) -> None:
        """A Temporal cancel means: abort the open request, then end."""
        if self.state.plan is None:
            return
        ended = await self._stop_request(self.state.request) if self.state.request else None
        await self._close(SessionStatus.ABORTED, f"cancelled; {ended.told}" if ended else "cancelled")

    async def _end(self) -> SessionResult:
        state = self.state
        status, reason = SessionStatus.COMPLETED, state.close.reason if state.close else ""
        if state.close_when_idle and state.last_outcome is not SessionStatus.COMPLETED:
            status, reason = state.last_outcome, state.reason
        await self._close(status, reason)
        await workflow.wait_condition(workflow.all_handlers_finished)
        if status is SessionStatus.FAILED:
            raise ApplicationError(reason, type="session_failed", non_retryable=True)
        return SessionResult(
            status=status,
            turns=state.spend.turns,
            calls=state.spend.calls,
            reason=reason,
            answer_digest=state.answer,
        )

    async def _close(self, status: SessionStatus, reason: str) -> None:
        closing = CloseSession(
            session_id=workflow.info().workflow_id,
            status=status,
            reason=reason,
            at=workflow.now(),
            outbox=self.outbox.board("close"),
        )
        # No local one: a workflow task that is lost after it could decide not to close, and the ledger was told.
        await workflow.execute_activity(
            contracts.close_session,
            closing,
            **options("close", f"close the session: {status}", SHORT),
        )
        self.outbox.ended("close", told=True)
        self.display.show(status, reason)

    def _should_continue_as_new(self) -> bool:
        info = workflow.info()
        return info.is_continue_as_new_suggested() or info.is_target_worker_deployment_version_changed()

    def _continue_as_new_if_due(self) -> None:
        if self.state.plan is None or self._running or not self._should_continue_as_new():
            return
        workflow.continue_as_new(args=[{"agent": self.state.agent}, self.state])
