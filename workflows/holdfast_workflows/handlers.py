"""How a running session is reached: updates for programs, signals for people and raw Temporal clients.

An update is refused before it enters history, and its sender is told why. A signal is always taken; one that
makes no sense leaves a trace in the ledger and the details.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from holdfast import ids
from holdfast.facts import Fact, Kind
from holdfast.messages import Command, Decide, Receipt, Resolve, Send
from holdfast.wire import Wire
from holdfast_workflows.lenient import read_signal
from holdfast_workflows.mailbox import Mailbox, Refusal
from holdfast_workflows.state import SessionState

M = TypeVar("M", bound=Wire)


def _reject(check: Callable[[], None]) -> None:
    try:
        check()
    except Refusal as refusal:
        raise ApplicationError(str(refusal), type=refusal.code, non_retryable=True) from refusal


class Handlers:
    """Updates and signals of a session; each puts one thing into the mailbox and returns."""

    def __init__(self, state: SessionState) -> None:
        self.state = state
        self.mailbox = Mailbox(state, workflow.now)

    @workflow.update(name="send", description="Send a message: one request, or steering the open one")
    def send(self, message: Send) -> Receipt:
        return self.mailbox.send(message)

    @send.validator
    def _check_send(self, message: Send) -> None:
        _reject(lambda: self.mailbox.check_send(message))

    @workflow.update(name="decide", description="Approve or deny one call, bound to its arguments")
    def decide(self, decision: Decide) -> Receipt:
        return self.mailbox.decide(decision)

    @decide.validator
    def _check_decide(self, decision: Decide) -> None:
        _reject(lambda: self.mailbox.check_decide(decision))

    @workflow.update(name="interrupt", description="Stop this turn and keep what was done")
    def interrupt(self, command: Command) -> Receipt:
        return self.mailbox.command("interrupt", command)

    @interrupt.validator
    def _check_interrupt(self, command: Command) -> None:
        _reject(lambda: self.mailbox.check_command("interrupt", command))

    @workflow.update(name="abort", description="Stop this request and undo what it did")
    def abort(self, command: Command) -> Receipt:
        return self.mailbox.command("abort", command)

    @abort.validator
    def _check_abort(self, command: Command) -> None:
        _reject(lambda: self.mailbox.check_command("abort", command))

    @workflow.update(name="close", description="Finish, and keep what was done")
    def close(self, command: Command) -> Receipt:
        return self.mailbox.command("close", command)

    @close.validator
    def _check_close(self, command: Command) -> None:
        _reject(lambda: self.mailbox.check_command("close", command))

    @workflow.update(name="resolve", description="Say what happened to a call whose outcome is unknown")
    def resolve(self, found: Resolve) -> Receipt:
        return self.mailbox.resolve(found)

    @resolve.validator
    def _check_resolve(self, found: Resolve) -> None:
        _reject(lambda: self.mailbox.check_resolve(found))

    @workflow.signal(name="send", description="Send a message: {text}, or a bare string")
    def send_signal(self, payload: Any = None) -> None:
        self._take("send", Send, payload, self.mailbox.check_send, self.mailbox.send)

    @workflow.signal(name="approve", description="Approve a call: {call, digest}")
    def approve_signal(self, payload: Any = None) -> None:
        self._take_decision("approve", payload, approve=True)

    @workflow.signal(name="deny", description="Deny a call: {call, digest, reason}")
    def deny_signal(self, payload: Any = None) -> None:
        self._take_decision("deny", payload, approve=False)

    @workflow.signal(name="decide", description="A decision as the update takes it")
    def decide_signal(self, payload: Any = None) -> None:
        self._take("decide", Decide, payload, self.mailbox.check_decide, self.mailbox.decide, authenticated=False)

    @workflow.signal(name="interrupt", description="Stop this turn and keep what was done: {reason}")
    def interrupt_signal(self, payload: Any = None) -> None:
        self._take_command("interrupt", payload)

    @workflow.signal(name="abort", description="Stop this request and undo what it did: {reason}")
    def abort_signal(self, payload: Any = None) -> None:
        self._take_command("abort", payload)

    @workflow.signal(name="close", description="Finish, and keep what was done: {reason}")
    def close_signal(self, payload: Any = None) -> None:
        self._take_command("close", payload)

    @workflow.signal(name="resolve", description="What happened to a call in doubt: {call, happened, reason}")
    def resolve_signal(self, payload: Any = None) -> None:
        self._take("resolve", Resolve, payload, self.mailbox.check_resolve, self.mailbox.resolve)

    def _take_decision(self, name: str, payload: Any, *, approve: bool) -> None:
        # whoever can signal the workflow can claim any name, so the decision stands as unauthenticated
        self._take(
            name,
            Decide,
            payload,
            self.mailbox.check_decide,
            self.mailbox.decide,
            approve=approve,
            authenticated=False,
        )

    def _take_command(self, name: str, payload: Any) -> None:
        self._take(
            name,
            Command,
            payload,
            lambda command: self.mailbox.check_command(name, command),
            lambda command: self.mailbox.command(name, command),
        )

    def _take(
        self,
        name: str,
        model: type[M],
        payload: Any,
        check: Callable[[M], None],
        put: Callable[[M], Receipt],
        **fixed: Any,
    ) -> None:
        given_id = f"signal-{workflow.uuid4()}"
        try:
            message = read_signal(model, payload, fallback_id=given_id, **fixed)
            check(message)
            put(message)
        except Refusal as refusal:
            self.state.refused = f"signal `{name}` was refused: {refusal}"
            said = ids.digest(str(refusal).encode())[:16]  # a lost workflow task may have told another reason
            self.state.outbox.append(
                Fact(
                    key=f"refused:{given_id}:{said}",
                    kind=Kind.SIGNAL_REFUSED,
                    at=workflow.now(),
                    outcome=refusal.code,
                    body={"signal": name, "reason": str(refusal)},
                )
            )
