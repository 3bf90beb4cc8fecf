"""A doubt is settled in the ledger before its session hears of it: nobody will say it again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from holdfast.contracts import Authorization, Call, CallOutcome, SagaRef, SessionPlan
from holdfast.messages import Principal, Resolve
from holdfast.states import CallStatus
from holdfast_workflows import calls
from holdfast_workflows.mailbox import Mailbox, Refusal
from holdfast_workflows.state import OpenCall, OpenRequest, OpenTurn, SessionState

NOW = datetime(2030, 3, 12, tzinfo=UTC)
FOUND = Resolve(id="r-1", call="1.1", happened=True, outcome="happened", by="rex", reason="it is in their log")


def session(*, authorization: Authorization | None) -> SessionState:
    """A session with one call, which is under way where it is authorised."""
    call = OpenCall(number="1.1", call=Call(tool_use_id="t-1", tool="pay"), authorization=authorization)
    turn = OpenTurn(number=1, head="h", calls=[call])
    state = SessionState(principal=Principal(), agent="default", started_at=NOW, head="h", plan=SessionPlan())
    state.request = OpenRequest(number=1, saga=SagaRef(id="s-1"), turn=turn)
    return state


def say(state: SessionState) -> None:
    mailbox = Mailbox(state, lambda: NOW)
    mailbox.check_resolve(FOUND)
    mailbox.resolve(FOUND)


def test_what_was_found_out_before_the_session_heard_of_the_doubt_settles_it() -> None:
    state = session(authorization=Authorization(verdict="allow", rule="tier"))
    assert state.request
    assert state.request.turn
    call = state.request.turn.calls[0]

    say(state)
    assert state.resolved == []  # nothing to wake up for
    calls.apply_outcome(state, state.request.turn, call, CallOutcome(status=CallStatus.UNKNOWN), NOW)
    assert state.resolved == [FOUND]
    calls.apply_resolution(state.request.turn, FOUND)

    assert call.settled
    assert call.settled.status is CallStatus.OK
    assert state.foretold == []


def test_a_call_that_is_not_under_way_cannot_be_in_doubt() -> None:
    with pytest.raises(Refusal) as refused:
        say(session(authorization=None))

    assert refused.value.code == "not_pending"
