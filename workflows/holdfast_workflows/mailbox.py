"""What people send into a session: checked, deduplicated by id, and put where the main loop finds it.

Nothing here awaits, so handlers return at once and no two of them interleave.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from holdfast.facts import Fact, Kind
from holdfast.messages import MAX_INLINE_BYTES, RECEIPT_MARK, SUMMARY_ID, Command, Decide, Receipt, Resolve, Send
from holdfast_workflows.state import MAX_EARLY, MAX_QUEUE, OpenCall, SessionState, message_digest


class Refusal(Exception):
    """The session cannot take this now.

    `code`: `closed`, `invalid`, `id_reused`, `too_large`, `full`, `not_pending`, `digest`, `expired`,
    `nothing_to_stop`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Mailbox:
    def __init__(self, state: SessionState, now: Callable[[], datetime]) -> None:
        self._state = state
        self._now = now

    def seen(self, message_id: str) -> Receipt | None:
        return self._state.receipts.get(message_id)

    def check_send(self, message: Send) -> None:
        if earlier := self.seen(message.id):
            if earlier.message not in (None, _mark(message)):
                raise Refusal("id_reused", f"the message id `{message.id}` was used before for another message")
            return
        self._check_open()
        if message.id.startswith(SUMMARY_ID):
            raise Refusal("invalid", f"message ids that begin with `{SUMMARY_ID}` are the session's own")
        if (message.digest is None) == (message.text is None):
            raise Refusal("invalid", "a message has either `text` or the `digest` of a stored one")
        if message.text is not None and len(message.text.encode("utf-8", "replace")) > MAX_INLINE_BYTES:
            raise Refusal(
                "too_large",
                f"an inline message is at most {MAX_INLINE_BYTES // 1024} KiB; "
                "send it with `holdfast send`, which stores it first",
            )
        if message.text is not None and not message.text.strip():
            raise Refusal("invalid", "the message is empty")
        if len(self._state.queue) >= MAX_QUEUE:
            raise Refusal("full", f"{MAX_QUEUE} messages are queued already; wait for the session to catch up")

    def send(self, message: Send) -> Receipt:
        if earlier := self.seen(message.id):
            return earlier
        state = self._state
        question = next((call for call in state.asks if call.ask and call.ask.question), None)
        joins = state.request is not None and (message.steer or question is not None)
        state.queue.append(message if not question else message.model_copy(update={"steer": True}))
        accepted = "now" if joins or (state.request is None and len(state.queue) == 1) else "queued"
        return state.receipt(Receipt(id=message.id, accepted=accepted, message=_mark(message)))

    def check_decide(self, decision: Decide) -> None:
        if self.seen(decision.id):
            return
        self._check_open()
        call = self._state.call(decision.call)
        if call is None:
            if self._is_past(decision.call):
                raise Refusal("not_pending", f"call {decision.call} is not waiting for a decision")
            if len(self._state.early) >= MAX_EARLY:
                raise Refusal("full", "too many decisions wait for calls that were not asked about yet")
            return
        if call.ask is None or call.ask.question:
            raise Refusal("not_pending", f"call {decision.call} ({call.call.tool}) {_why_not_pending(call)}")
        if call.call.digest != decision.digest:
            raise Refusal(
                "digest",
                f"the decision is about other arguments than call {decision.call} has now "
                f"(digest {call.call.digest[:12]}); look at it again with `holdfast approval list`",
            )
        if call.ask.expires_at and self._now() >= call.ask.expires_at:
            raise Refusal("expired", f"the time to decide call {decision.call} is over")

    def decide(self, decision: Decide) -> Receipt:
        if earlier := self.seen(decision.id):
            return earlier
        self._state.early.append(decision)
        kept = "now" if self._state.call(decision.call) else "kept"
        return self._state.receipt(Receipt(id=decision.id, accepted=kept))

    def check_command(self, name: str, command: Command) -> None:
        if self.seen(command.id):
            return
        if self._state.status.ended:
            raise Refusal("closed", f"the session has ended ({self._state.status})")
        if name != "close" and self._state.request is None:
            raise Refusal("nothing_to_stop", f"no request is open, so there is nothing to {name}")

    def command(self, name: str, command: Command) -> Receipt:
        if earlier := self.seen(command.id):
            return earlier
        setattr(self._state, name, command)
        self._state.outbox.append(
            Fact(
                key=f"command:{self._state.run}:{command.id}",
                kind=Kind.COMMAND_RECEIVED,
                at=self._now(),
                actor=command.by,
                outcome=name,
                body={"reason": command.reason[:1000]},
            )
        )
        return self._state.receipt(Receipt(id=command.id))

    def check_resolve(self, resolve: Resolve) -> None:
        if self.seen(resolve.id):
            return
        request = self._state.request
        if resolve.call == "*":
            if request is None or request.held is None:
                raise Refusal("not_pending", "the session is not held for its database")
            return
        call = self._state.call(resolve.call)
        if call is None or call.settled or not (call.unknown or call.authorization):
            raise Refusal("not_pending", f"the outcome of call {resolve.call} is not in doubt")
        if not call.unknown and len(self._state.foretold) >= MAX_EARLY:
            raise Refusal("full", "too much was said already about calls that are not in doubt yet")

    def resolve(self, resolve: Resolve) -> Receipt:
        if earlier := self.seen(resolve.id):
            return earlier
        call = self._state.call(resolve.call)
        heard = call is None or call.unknown is not None
        (self._state.resolved if heard else self._state.foretold).append(resolve)
        if resolve.what == "probe":  # the rest stands in the ledger already
            self._state.outbox.append(
                Fact(
                    key=f"command:{self._state.run}:{resolve.id}",
                    kind=Kind.COMMAND_RECEIVED,
                    at=self._now(),
                    call=resolve.call,
                    actor=resolve.by,
                    outcome="probe",
                    body={"reason": resolve.reason[:1000]},
                )
            )
        return self._state.receipt(Receipt(id=resolve.id))

    def _check_open(self) -> None:
        if self._state.status.ended or self._state.close:
            raise Refusal("closed", "the session is closed; start a new one")

    def _is_past(self, number: str) -> bool:
        turn, _, index = number.partition(".")
        if not (turn.isdigit() and index.isdigit()):
            raise Refusal("invalid", f"`{number}` is no call; calls are named TURN.INDEX, e.g. 3.1")
        return int(turn) <= self._state.turn


def _mark(message: Send) -> str:
    return (message.digest or message_digest(message.text or ""))[:RECEIPT_MARK]


def _why_not_pending(call: OpenCall) -> str:
    if call.settled:
        return f"is already settled: {call.settled.status}"
    if call.authorization and call.authorization.decision:
        return f"was already approved by {call.authorization.approver}"
    return "needs no decision"
