"""The calls of the open turn that run: their activities, and what comes back of them.

A call that was dispatched is waited for, whatever became of the request: only its outcome settles it.
"""

from __future__ import annotations

from typing import Protocol

from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

from holdfast import contracts
from holdfast.catalogue import SagaName
from holdfast.contracts import CallOutcome, ExecuteCall
from holdfast.saga_contracts import SagaInput
from holdfast.states import Tier
from holdfast_workflows import calls, requests
from holdfast_workflows.outbox import Outbox
from holdfast_workflows.probing import Probing
from holdfast_workflows.saga_call import RunningSaga, saga_id
from holdfast_workflows.scheduling import SHORT, inline_options, options
from holdfast_workflows.state import OpenCall, OpenTurn, SessionState


class Running(Protocol):
    """A call that runs: an activity, or a saga."""

    def done(self) -> bool: ...
    def result(self) -> CallOutcome: ...
    def cancel(self) -> object: ...


class RunningCalls:
    def __init__(self, state: SessionState, outbox: Outbox) -> None:
        self._state = state
        self._outbox = outbox
        self._handles: dict[str, Running] = {}
        self._local: set[str] = set()
        """Of those, the ones inside the workflow task."""
        self._ordinary: set[str] = set()
        """Calls that settled nothing there: ordinary ones from then on."""
        self._probing = Probing(state, self._start_probe)

    def __bool__(self) -> bool:
        return bool(self._handles)

    @property
    def numbers(self) -> frozenset[str]:
        return frozenset(self._handles)

    def has_news(self) -> bool:
        return self._probing.has_news() or any(handle.done() for handle in self._handles.values())

    def schedule(self, turn: OpenTurn) -> None:
        """Start what may run, as far as there is room, and ask about what is in doubt."""
        assert self._state.plan is not None
        room = self._state.plan.limits.parallel_calls - len(self._handles)
        inline = calls.is_inline(self._state, turn)
        for call in calls.ready(turn, set(self._handles))[: max(room, 0)]:
            self._handles[call.number] = self._start(turn, call, inline and call.number not in self._ordinary)
        self._probing.tend(turn)

    def take_finished(self, turn: OpenTurn) -> None:
        for number in [number for number, handle in self._handles.items() if handle.done()]:
            self._finished(turn, number)

    def take_answers(self, turn: OpenTurn) -> None:
        """What was found out about calls in doubt."""
        for number, outcome in self._probing.answers():
            self._take_outcome(turn, number, outcome)

    def probe_now(self, number: str) -> None:
        self._probing.ask_now(number)

    def stop_probing(self) -> None:
        self._probing.stop()

    async def stop(self, turn: OpenTurn) -> None:
        """Ask what runs to stop, and wait: dispatched writes finish, the rest is cancelled."""
        for handle in self._handles.values():
            handle.cancel()
        while self._handles:
            await workflow.wait_condition(lambda: any(handle.done() for handle in self._handles.values()))
            self.take_finished(turn)

    def _finished(self, turn: OpenTurn, number: str) -> None:
        handle, local = self._handles.pop(number), number in self._local
        self._local.discard(number)
        try:
            outcome = handle.result()
        except FailureError as error:  # of a local activity as it was raised, no ActivityError around it
            self._outbox.ended(number, told=False)
            if is_cancelled_exception(error):
                return  # before it was dispatched: whoever cancelled it settles it
            if local:
                self._ordinary.add(number)
                return
            outcome = requests.lost_call(turn.call(number), error)
        else:
            self._outbox.ended(number, told=outcome.held is None)
        self._take_outcome(turn, number, outcome)

    def _take_outcome(self, turn: OpenTurn, number: str, outcome: CallOutcome) -> None:
        if outcome.held and self._state.request:
            self._state.request.held = outcome.held
            return
        calls.apply_outcome(self._state, turn, turn.call(number), outcome, workflow.now())

    def _start_call(self, turn: OpenTurn, call: OpenCall, inline: bool) -> workflow.ActivityHandle[CallOutcome]:
        assert self._state.plan
        timeout = calls.plan_of(self._state, call).timeout
        name, summary = f"turn-{call.number}.{call.call.tool}", f"{call.call.tool} {call.call.preview}"
        request = self._request(turn, call).model_copy(update={"outbox": self._outbox.board(call.number)})
        if inline:
            self._local.add(call.number)
            local = inline_options(name, summary, timeout + contracts.INLINE_MARGIN)
            return workflow.start_local_activity(contracts.execute_call, request, **local)
        plan = self._state.plan
        carried = options(
            name, summary, timeout + contracts.RECORD_MARGIN, lease=plan.lease, queue=plan.queues.tools
        )
        return workflow.start_activity(contracts.execute_call, request, **carried)

    def _start(self, turn: OpenTurn, call: OpenCall, inline: bool) -> Running:
        assert self._state.request is not None
        saga = calls.plan_of(self._state, call).saga
        if saga is not None:
            return self._start_saga(turn, call, saga)
        if call.tier is not Tier.READ:
            self._state.request.may_stand = True
        return self._start_call(turn, call, inline)

    def _start_saga(self, turn: OpenTurn, call: OpenCall, saga: SagaName) -> RunningSaga:
        assert self._state.request is not None
        session_id = workflow.info().workflow_id
        start = SagaInput(
            name=saga.name,
            version=saga.version,
            args=call.call.args or {},
            principal=self._state.principal,
            parent=session_id,
            trace=self._state.request.trace,
        )
        return RunningSaga(
            saga_id(session_id, call.number, turn.head), start, f"{call.call.tool} {call.call.preview}"
        )

    def _start_probe(self, turn: OpenTurn, call: OpenCall) -> workflow.ActivityHandle[CallOutcome]:
        assert self._state.plan
        carried = options(
            f"turn-{call.number}.{call.call.tool}.probe-{workflow.info().get_current_history_length()}",
            f"did {call.call.tool} {call.call.preview} happen?",
            SHORT,
            queue=self._state.plan.queues.tools,
        )
        carried["cancellation_type"] = workflow.ActivityCancellationType.TRY_CANCEL  # it sends nothing
        return workflow.start_activity(contracts.probe_call, self._request(turn, call), **carried)

    def _request(self, turn: OpenTurn, call: OpenCall) -> ExecuteCall:
        state, plan = self._state, calls.plan_of(self._state, call)
        assert state.plan
        assert state.request
        assert call.authorization
        return ExecuteCall(
            session_id=workflow.info().workflow_id,
            turn=turn.number,
            head=turn.head,
            call=call.number,
            tool_use_id=call.call.tool_use_id,
            tool=call.call.tool,
            digest=call.call.digest,
            tier=call.tier if call.tier is not plan.tier else None,
            catalogue=state.plan.catalogue,
            saga=state.request.saga,
            authorization=call.authorization,
            attempts=plan.attempts,
            trace=state.request.trace,
        )
