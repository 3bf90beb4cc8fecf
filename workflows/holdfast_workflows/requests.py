"""Requests: what one user message asks for, from the message to the end of its saga. Pure over the state."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError
from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError

from holdfast import ids
from holdfast.budget import exhausted
from holdfast.contracts import REOPENED, Call, CallOutcome, ModelTurn, SagaRef, TurnResult, UserMessage
from holdfast.facts import Fact, Kind
from holdfast.messages import MAX_INLINE_BYTES, Command, Send, SessionInput
from holdfast.states import CallStatus, SessionStatus, Tier
from holdfast_workflows import summaries
from holdfast_workflows.state import OpenCall, OpenRequest, SessionState, message_digest
from holdfast_workflows.unwinding import SagaEnd

NOTE = "[Holdfast: {}.]"
WINDOW_FULL = "model_context_window_exceeded"
TOO_LONG = (
    "the answer was cut off where the model's context window ends; start a new session, and give its agent a "
    "memory `strategy` in `[agents.NAME.memory]`, or a lower `above` where it has one"
)
CONTINUE = "Your answer was cut off at the output limit. Go on where you stopped."


def read_start(start: Any) -> SessionInput:
    """Read the workflow's input, as a client, the CLI or `temporal workflow start` sent it.

    Raises:
        ApplicationError: naming what does not fit, so that the session fails instead of hanging.
    """
    try:
        given = SessionInput.model_validate(start)
    except ValidationError as error:
        fields = "; ".join(f"`{'.'.join(map(str, e['loc']))}`: {e['msg']}" for e in error.errors())
        raise ApplicationError(
            f'the input of AgentSession is `{{"agent": ..., "message": ...}}`: {fields}',
            type="invalid_input",
            non_retryable=True,
        ) from error
    if given.message is not None and len(given.message.encode("utf-8", "replace")) > MAX_INLINE_BYTES:
        raise ApplicationError(
            f"an inline message is at most {MAX_INLINE_BYTES // 1024} KiB; start the session with `holdfast start`",
            type="invalid_input",
            non_retryable=True,
        )
    return given


def new_session(start: Any, info: workflow.Info, now: datetime) -> SessionState:
    """The state of a session that starts; a bad input gives an empty one, and `run` refuses it."""
    try:
        given = read_start(start)
    except ApplicationError:
        given = SessionInput()
    state = SessionState(
        principal=given.principal,
        agent=given.agent,
        limits=given.limits,
        close_when_idle=given.close_when_idle,
        started_at=now,
        head=ids.first_head(info.workflow_id),
    )
    if given.send:
        state.queue.append(given.send)
    if given.message:
        state.queue.append(
            Send(id=f"{info.workflow_id}/start", text=given.message, by=given.principal.requested_by)
        )
    return state


def open_request(state: SessionState, session_id: str, now: datetime) -> None:
    """Take the first queued message as the next request."""
    message = _user_message(state.queue.pop(0), state, now)
    state.requests += 1
    head = ids.next_head(state.head, message.digest)
    state.request = OpenRequest(
        number=state.requests,
        saga=SagaRef(id=ids.saga_id(session_id, state.requests, head), request=state.requests),
        trace=state.trace,
    )
    state.reason = ""
    state.incoming.append(message)


def take_steering(state: SessionState, now: datetime) -> None:
    """Steering messages join the open request, after the results they came during."""
    for message in [m for m in state.queue if m.steer]:
        state.queue.remove(message)
        state.incoming.append(_user_message(message, state, now))


def _user_message(message: Send, state: SessionState, now: datetime) -> UserMessage:
    if message.trace:
        state.trace = dict(message.trace)
    digest = message.digest or message_digest(message.text or "")
    state.outbox.append(
        Fact(
            key=f"message:{state.run}:{message.id}",
            kind=Kind.MESSAGE_RECEIVED,
            at=now,
            turn=state.turn + 1,
            actor=message.by,
            outcome="steering" if message.steer else "request",
            body={"id": message.id, "digest": digest, "inline": message.text is not None},
        )
    )
    return UserMessage(id=message.id, digest=digest, text=message.text, by=message.by)


def limit_reached(state: SessionState, now: datetime) -> str | None:
    assert state.plan is not None
    return exhausted(state.plan.limits, state.spend, now - state.started_at)


def model_turn(state: SessionState, request: OpenRequest, session_id: str) -> ModelTurn:
    """The next model turn, on the head that its incoming messages make."""
    assert state.plan is not None
    summary = summaries.due(state, request)
    incoming = summaries.asking(state) if summary else tuple(state.incoming)
    head = state.head
    for message in incoming:
        head = ids.next_head(head, message.digest)
    return ModelTurn(
        session_id=session_id,
        turn=state.turn + 1,
        parent=state.head,
        head=head,
        incoming=incoming,
        catalogue=state.plan.catalogue,
        saga=request.saga,
        final=request.final,
        summary=summary,
        trace=request.trace,
    )


def record_turn(state: SessionState, request: OpenRequest, turn: ModelTurn, result: TurnResult) -> tuple[Call, ...]:
    """Take in a recorded turn; returns its calls. A summary has none, and is no answer to the user."""
    state.turn = turn.turn
    state.head = ids.next_head(turn.head, result.message)
    state.spend = state.spend.with_turn(result.usage, result.usd)
    if turn.summary:
        summaries.take_in_summary(state, result)
        return ()
    state.incoming = []
    summaries.take_in(state, result)
    state.answer = result.message
    state.spoken = result.text
    if turn.final:
        request.final_done = True
    return result.calls


def is_over(state: SessionState, request: OpenRequest, result: TurnResult) -> bool:
    """Whether a turn without calls ends its request; prepares the next turn where it does not."""
    assert state.plan is not None
    if request.final_done or result.committed:
        return True
    if result.stop_reason == "pause_turn":
        return False
    if state.plan.on_max_tokens == "continue" and result.stop_reason == WINDOW_FULL:
        return _is_full(state, request)
    if state.plan.on_max_tokens == "continue" and result.stop_reason == "max_tokens":
        _ask_to_go_on(state)
        return False
    if result.stop_reason == "refusal" and state.plan.on_refusal == "fail":
        state.reason = "the model refused"
        state.last_outcome = SessionStatus.FAILED
        return True
    return not any(m.steer for m in state.queue)


def _is_full(state: SessionState, request: OpenRequest) -> bool:
    """Whether nothing helps against a full context window: the agent's memory makes room before the next turn."""
    if request.cut_at_window:
        state.reason = TOO_LONG
        state.last_outcome = SessionStatus.FAILED
        return True
    request.cut_at_window = True
    _ask_to_go_on(state)
    return False


def _ask_to_go_on(state: SessionState) -> None:
    state.incoming.append(UserMessage(id=f"continue-{state.turn}", digest=message_digest(CONTINUE), text=CONTINUE))


def close_request(
    state: SessionState,
    request: OpenRequest,
    *,
    outcome: SessionStatus,
    now: datetime,
    committed: bool = False,
    ended: SagaEnd | None = None,
) -> None:
    """End the request. A saga that neither the last turn committed nor an unwind ended is closed by a fact: the
    ledger judges what stands.
    """
    state.request = None
    state.compensations = []
    state.last_outcome = outcome
    if committed:
        return
    how = ended.how if ended else "nothing"
    state.outbox.append(
        Fact(
            key=f"request:{state.run}:{request.number}",
            kind=Kind.REQUEST_CLOSED,
            at=now,
            saga_id=request.saga.id,
            outcome=SessionStatus.COMPLETED if how == "kept" else outcome,
            body={
                "reason": state.reason,
                "request": request.number,
                **({"unwind": True} if how == "ended" else {}),
            },
        )
    )


def next_saga(state: SessionState, request: OpenRequest, session_id: str) -> None:
    """The request goes on in a saga of its own, after the one before was ended."""
    saga_id = ids.saga_id(session_id, request.number, state.head)
    request.saga = SagaRef(id=saga_id, request=request.number)
    request.may_stand = False
    request.apart = []


def tell_model(state: SessionState, request: OpenRequest, text: str) -> None:
    """Add a note of ours to what the model reads next; the mark tells it from what a user says."""
    note = NOTE.format(text)
    state.incoming.append(
        UserMessage(id=f"note-{request.number}", digest=message_digest(note), text=note, by="session")
    )


def lost_call(call: OpenCall, error: FailureError) -> CallOutcome:
    """What a call's activity that somebody failed for good leaves: a read failed; of a write only its row knows.

    So a write is asked for again, and answers from its row. Where that is failed too, the session holds.
    """
    cause = error.cause or error
    if call.tier is Tier.READ:
        return CallOutcome(status=CallStatus.ERROR, code="internal", text=f"the tool failed: {cause}"[:500])
    call.lost += 1
    if call.lost == 1:
        return CallOutcome(status=CallStatus.UNKNOWN, code=REOPENED)
    held = f"the activity of call {call.number} {call.call.tool} was failed from outside: {cause}"[:500]
    return CallOutcome(status=CallStatus.UNKNOWN, code="internal", held=held)


def why_held(request: OpenRequest) -> str:
    return f"{request.held}; when it is put right, `holdfast session recheck` lets the session go on"


def stopped_by(
    state: SessionState, *, cancelled: bool
) -> tuple[Literal["aborted", "interrupted", "closed"], Command | None]:
    """What stops the open request now, the strongest first, and who said so; nobody for a Temporal cancel."""
    if state.abort or cancelled:
        return "aborted", state.abort
    if state.interrupt:
        return "interrupted", state.interrupt
    return "closed", state.close


def stopped(how: str, command: Command | None) -> str:
    """`aborted by ann: wrong booking`, as the model, the user and the ledger read it."""
    if command is None:
        return f"{how} from Temporal"
    return f"{how} by {command.by}" + (f": {command.reason}" if command.reason else "")
