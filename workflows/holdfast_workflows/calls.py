"""The calls of one turn: decided by policy, asked of a person where it says so, run in parallel, settled.

Pure decisions over the session's state; the session schedules what `ready` names and reports what came back.
Must hold: every call ends settled, whatever happened, so that every tool_use has its tool_result.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from holdfast.catalogue import ToolPlan
from holdfast.contracts import REOPENED, REPEAT, Authorization, Call, CallOutcome
from holdfast.facts import Fact, Kind
from holdfast.messages import Decide, Resolve, checked
from holdfast.policy import decide
from holdfast.states import CallStatus, SessionStatus, Tier, Verdict
from holdfast_workflows.saga_call import STANDS
from holdfast_workflows.state import Ask, Compensation, OpenCall, OpenTurn, SessionState
from holdfast_workflows.unwinding import SagaEnd

WAIT_UNTIL = "wait_until"
ABORT_REQUEST = "abort_request"
BESIDE_ABORT = (
    "not run: `abort_request` was called in the same turn; call it again afterwards if it is still wanted"
)


def open_turn(state: SessionState, number: int, head: str, calls: tuple[Call, ...], now: datetime) -> OpenTurn:
    """Turn the model's calls into open ones, each already decided by policy."""
    turn = OpenTurn(
        number=number,
        head=head,
        calls=[OpenCall(number=f"{number}.{i}", call=call) for i, call in enumerate(calls, start=1)],
    )
    for call in turn.calls:
        _decide(state, call, turn.number, now)
    if any(call.aborts for call in turn.calls):
        _only_reads(state, turn, now)
    return turn


def _only_reads(state: SessionState, turn: OpenTurn, now: datetime) -> None:
    """Beside an `abort_request` nothing is begun that would have to be undone, or that waits for somebody."""
    reads = frozenset(c.number for c in turn.calls if c.aborts or (c.authorization and c.tier is Tier.READ))
    cancel_open(state, turn, BESIDE_ABORT, now, reads)


def _decide(state: SessionState, open_call: OpenCall, turn: int, now: datetime) -> None:
    plan, call = state.plan, open_call.call
    assert plan is not None  # no turn before the session opened
    tool = plan.tool(call.tool)
    if call.invalid or tool is None:
        open_call.settle(CallStatus.ERROR, call.invalid or f"there is no tool `{call.tool}`")
        return
    open_call.tier = Tier(call.facts.get("tier", tool.tier))
    refusal = _beyond_limits(state)
    if refusal:
        _deny(state, open_call, turn, now, rule="limits", reason=refusal)
        return
    decision = decide(
        plan.policy_version,
        plan.policy,
        tool=call.tool,
        tier=tool.tier,
        facts=call.facts,
        roles=state.principal.roles,
    )
    open_call.rule = decision.rule
    if decision.verdict is Verdict.DENY:
        _deny(state, open_call, turn, now, rule=decision.rule, reason=decision.reason)
        return
    state.spend = state.spend.with_calls(1)
    if tool.handled == "workflow" and tool.saga is None:
        _wait_in_workflow(state, open_call, turn, now)
    elif decision.verdict is Verdict.ASK:
        _ask(state, open_call, turn, now)
    else:
        open_call.authorization = Authorization(
            verdict="allow", rule=decision.rule, policy_version=plan.policy_version
        )


def _beyond_limits(state: SessionState) -> str | None:
    assert state.plan
    assert state.request
    if state.request.final:
        return f"no tools in the last turn: {state.request.final}"
    limit = state.plan.limits.calls
    if limit is not None and state.spend.calls >= limit:
        return f"the limit of {limit} tool calls is reached"
    return None


def _deny(state: SessionState, open_call: OpenCall, turn: int, now: datetime, *, rule: str, reason: str) -> None:
    open_call.settle(CallStatus.DENIED, reason)
    state.outbox.append(
        Fact(
            key=f"decided:{state.run}:{open_call.number}:{open_call.call.digest[:16]}",
            kind=Kind.CALL_DECIDED,
            at=now,
            turn=turn,
            call=open_call.number,
            tool=open_call.call.tool,
            tier=open_call.tier,
            outcome="deny",
            actor="policy",
            body={
                "rule": rule,
                "reason": reason,
                "digest": open_call.call.digest,
                "policy_version": policy_version(state),
            },
        )
    )


def _ask(state: SessionState, open_call: OpenCall, turn: int, now: datetime, *, why: str = "") -> None:
    assert state.plan is not None
    policy = state.plan.policy
    open_call.ask = Ask(asked_at=now, expires_at=now + policy.approval_expiry)
    state.outbox.append(
        Fact(
            key=f"asked:{state.run}:{open_call.number}:{open_call.call.digest[:16]}" + (":again" if why else ""),
            kind=Kind.APPROVAL_ASKED,
            at=now,
            turn=turn,
            call=open_call.number,
            tool=open_call.call.tool,
            tier=open_call.tier,
            actor="policy",
            body={
                "rule": open_call.rule,
                "policy_version": policy_version(state),
                "digest": open_call.call.digest,
                "preview": f"{open_call.call.preview} ({why})" if why else open_call.call.preview,
                "tool_use_id": open_call.call.tool_use_id,
                "expires_at": (now + policy.approval_expiry).isoformat(),
                "use_within": policy.use_within.total_seconds(),
            },
        )
    )


def _wait_in_workflow(state: SessionState, open_call: OpenCall, turn: int, now: datetime) -> None:
    facts = open_call.call.facts
    if open_call.call.tool == WAIT_UNTIL:
        until = facts.get("until")
        open_call.wake_at = (
            datetime.fromisoformat(until) if until else now + timedelta(seconds=float(facts.get("seconds", 0)))
        )
        return
    if open_call.call.tool == ABORT_REQUEST:
        open_call.aborts = str(facts.get("reason") or "no reason given")
        return
    open_call.ask = Ask(asked_at=now, question=True)
    state.outbox.append(
        Fact(
            key=f"question:{state.run}:{open_call.number}:{open_call.call.digest[:16]}",
            kind=Kind.QUESTION_ASKED,
            at=now,
            turn=turn,
            call=open_call.number,
            tool=open_call.call.tool,
            tier=open_call.tier,
            actor="model",
            body={"preview": open_call.call.preview, "digest": open_call.call.digest},
        )
    )


def apply_decisions(state: SessionState, turn: OpenTurn, now: datetime) -> None:
    """Give each pending ask its decision, its expiry, or its time to go on."""
    for open_call in turn.calls:
        decision = _decision_for(state, open_call)
        if decision is not None:
            _apply(state, open_call, turn, decision, now)
        elif open_call.ask and open_call.ask.expires_at and now >= open_call.ask.expires_at:
            _expire(state, open_call, turn, now)
        elif open_call.wake_at and now >= open_call.wake_at:
            open_call.settle(CallStatus.OK, f"It is now {now.isoformat(timespec='seconds')}.")
    state.early = [d for d in state.early if int(d.call.partition(".")[0]) > turn.number]


def _decision_for(state: SessionState, open_call: OpenCall) -> Decide | None:
    if open_call.ask is None or open_call.ask.question:
        return None
    return next((d for d in state.early if d.call == open_call.number and d.digest == open_call.call.digest), None)


def _apply(state: SessionState, open_call: OpenCall, turn: OpenTurn, decision: Decide, now: datetime) -> None:
    assert state.plan is not None
    _decided(state, open_call, turn, decision, "approved" if decision.approve else "denied", now)
    if not decision.approve:
        open_call.settle(
            CallStatus.DENIED, f"{decision.by} denied this call: {decision.reason or 'no reason given'}"
        )
        return
    open_call.ask = None
    open_call.authorization = Authorization(
        verdict="allow",
        rule=open_call.rule,
        policy_version=policy_version(state),
        approver=decision.by,
        authenticated=decision.authenticated,
        decision=decision.id,
        decided_at=now,
        use_within=state.plan.policy.use_within,
    )


def _expire(state: SessionState, open_call: OpenCall, turn: OpenTurn, now: datetime) -> None:
    decision = Decide(
        id=f"expired-{open_call.number}-{open_call.call.digest[:12]}",
        call=open_call.number,
        digest=open_call.call.digest,
        approve=False,
        by="policy",
        reason="nobody decided in time",
    )
    _decided(state, open_call, turn, decision, "expired", now)
    open_call.settle(CallStatus.DENIED, "Nobody decided about this call in time, so it was not run.")


def _decided(
    state: SessionState, open_call: OpenCall, turn: OpenTurn, decision: Decide, outcome: str, now: datetime
) -> None:
    state.outbox.append(
        Fact(
            key=f"approval:{state.run}:{open_call.number}:{decision.id}",
            kind=Kind.APPROVAL_DECIDED,
            at=now,
            turn=turn.number,
            call=open_call.number,
            tool=open_call.call.tool,
            tier=open_call.tier,
            outcome=outcome,
            actor=decision.by,
            body={
                "decision": decision.id,
                "rule": open_call.rule,
                "policy_version": policy_version(state),
                "digest": decision.digest,
                "approve": decision.approve,
                "by": decision.by,
                "authenticated": decision.authenticated,
                "reason": decision.reason[:1000],
            },
        )
    )


def answer_question(state: SessionState, turn: OpenTurn) -> bool:
    """Settle a pending question when a message came; the message itself follows the results."""
    asked = next((call for call in turn.calls if call.ask and call.ask.question), None)
    if asked is None or not any(message.steer for message in state.queue):
        return False
    asked.settle(CallStatus.OK, "The person's answer is in the message that follows.")
    return True


def apply_resolution(turn: OpenTurn, resolve: Resolve) -> None:
    """A person said what happened to a call in doubt; Postgres holds the same. `probe` is the session's to do."""
    open_call = next((c for c in turn.calls if c.number == resolve.call and c.unknown), None)
    if open_call is None or resolve.what == "probe":
        return
    if resolve.what == "retry":
        open_call.unknown = None  # authorised as before, so it is ready again
    elif resolve.what == "happened":
        said = None if resolve.digest else checked(resolve)  # with a result, its row says both
        open_call.settle(CallStatus.OK, said, resolve.digest)
    else:
        open_call.settle(CallStatus.ERROR, checked(resolve))


def apply_outcome(
    state: SessionState, turn: OpenTurn, open_call: OpenCall, outcome: CallOutcome, now: datetime
) -> None:
    """Settle a call with what its activity returned, or leave it in doubt."""
    assert state.plan is not None
    state.spend = state.spend.with_calls(0, outcome.usd)
    foretold = [resolve for resolve in state.foretold if resolve.call == open_call.number]
    state.foretold = [resolve for resolve in state.foretold if resolve.call != open_call.number]
    if outcome.code == REPEAT:
        _repeated(state, turn, open_call, outcome.text or "the same stands already", now)
        return
    if outcome.code == REOPENED:
        open_call.unknown = None
        return
    if outcome.status is CallStatus.UNKNOWN and state.plan.policy.on_unknown == "hold":
        open_call.unknown = outcome.text or "the outcome is unknown"
        state.resolved += foretold
        return
    open_call.settle(outcome.status, outcome.text, outcome.digest)
    if outcome.code == STANDS and state.request:
        state.request.apart.append(f"{open_call.number} {open_call.call.tool}")
    undo = plan_of(state, open_call).undo
    if undo and outcome.status is CallStatus.OK:
        state.compensations.append(Compensation(call=open_call.number, undo=undo))


def _repeated(state: SessionState, turn: OpenTurn, open_call: OpenCall, why: str, now: datetime) -> None:
    """The ledger stopped a call because the same stands already: policy says whether a person may allow it."""
    assert state.plan is not None
    if state.plan.policy.on_repeat == "refuse":
        _deny(state, open_call, turn.number, now, rule=REPEAT, reason=why)
        return
    state.early = [d for d in state.early if d.call != open_call.number]  # who decided before did not know
    open_call.authorization = None
    open_call.rule = REPEAT
    _ask(state, open_call, turn.number, now, why=why)


def cancel_open(
    state: SessionState, turn: OpenTurn, reason: str, now: datetime, running: frozenset[str] = frozenset()
) -> None:
    """Settle what was never dispatched; the ledger tombstones it, so no late attempt can run it."""
    for open_call in turn.calls:
        if open_call.settled or open_call.number in running:
            continue
        if open_call.unknown or open_call.lost:
            why = open_call.unknown or "its attempt was lost"
            open_call.settle(CallStatus.UNKNOWN, f"outcome unknown: {why}")
            continue
        open_call.settle(CallStatus.CANCELLED, reason)
        state.outbox.append(
            Fact(
                key=f"cancelled:{state.run}:{open_call.number}:{open_call.call.digest[:16]}",
                kind=Kind.CALL_DECIDED,
                at=now,
                turn=turn.number,
                call=open_call.number,
                tool=open_call.call.tool,
                tier=open_call.tier,
                outcome="cancelled",
                body={"reason": reason, "digest": open_call.call.digest},
            )
        )


def aborting(turn: OpenTurn) -> list[OpenCall]:
    """The calls that abort the request, once all others of the turn are settled."""
    unsettled = [call for call in turn.calls if not call.settled]
    return unsettled if all(call.aborts for call in unsettled) else []


def settle_abort(call: OpenCall, ended: SagaEnd | None) -> None:
    """Tell the model what `abort_request` did; an error where anything stands, or is not known to be undone."""
    if ended is None:
        call.settle(CallStatus.OK, "This request changed nothing, so there was nothing to undo.")
        return
    call.settle(CallStatus.OK if ended.clean else CallStatus.ERROR, f"{ended.told[:1].upper()}{ended.told[1:]}.")


def ready(turn: OpenTurn, running: set[str]) -> list[OpenCall]:
    """Calls that may be scheduled now, in tool_use order."""
    return [
        c for c in turn.calls if c.authorization and not c.settled and not c.unknown and c.number not in running
    ]


def is_inline(state: SessionState, turn: OpenTurn) -> bool:
    """Whether all that runs of the turn are quick reads that nobody was asked about: then they run as local ones.

    With any other call beside them they are ordinary ones: what waits for that need not wait for them.
    """
    return all(call.settled or _quick(state, call) for call in turn.calls)


def _quick(state: SessionState, call: OpenCall) -> bool:
    allowed = call.authorization is not None and call.authorization.decision is None
    return allowed and call.tier is Tier.READ and plan_of(state, call).inline


def next_wake(turn: OpenTurn) -> datetime | None:
    """When an ask expires or a wait ends, whichever is first."""
    times = [call.wake_at for call in turn.calls if call.wake_at]
    times += [call.ask.expires_at for call in turn.calls if call.ask and call.ask.expires_at]
    return min(times, default=None)


def plan_of(state: SessionState, call: OpenCall) -> ToolPlan:
    assert state.plan is not None
    plan = state.plan.tool(call.call.tool)
    assert plan is not None  # a call without a plan is settled when it is opened
    return plan


def policy_version(state: SessionState) -> int:
    """Of the policy code that decides, as the session was opened with it."""
    assert state.plan is not None
    return state.plan.policy_version


def has_answer(state: SessionState, turn: OpenTurn) -> bool:
    """Whether something came for a pending ask."""
    decided = {decision.call for decision in state.early}
    steering = any(message.steer for message in state.queue)
    return any(call.ask and (steering if call.ask.question else call.number in decided) for call in turn.calls)


def waiting_for(turn: OpenTurn) -> tuple[SessionStatus, str]:
    """The status while calls are open, and its reason in words."""
    if asked := [call for call in turn.calls if call.ask]:
        what = ", ".join(f"{call.number} {call.call.tool}" for call in asked)
        return SessionStatus.WAITING, f"a person must decide about {what}"
    if doubtful := [call for call in turn.calls if call.unknown]:
        what = ", ".join(f"{call.number} {call.call.tool}" for call in doubtful)
        return SessionStatus.HELD, f"the outcome of {what} is unknown"
    return SessionStatus.RUNNING, ""
