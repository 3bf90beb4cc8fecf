"""Summaries: where an agent's memory is `summarise`, a turn of its own from which a long conversation goes on.

What the summary answers ends the conversation so far: open tool results come before it, and whatever nobody has
answered yet, a new request or steering, after it.
"""

from __future__ import annotations

from holdfast.contracts import Results, TurnResult, UserMessage
from holdfast.messages import SUMMARY_ID
from holdfast_workflows.state import OpenRequest, SessionState, message_digest

SUMMARISE = (
    "This conversation is about to be shortened to your next answer. Write the summary that lets the "
    "work go on from it alone: what was asked for, in the user's own words where they matter; what was done, with "
    "every id, name, number and path that is still needed; what was found out; what the user decided or forbade; "
    "what is left to do. Do nothing else now."
)
GO_ON = "Go on with the request."
GROWTH = 4
"""After a summary that leaves much, the next waits until a quarter of what the memory holds has come: each is paid
for, and costs the provider's cache."""
GOES_ON = frozenset({"pause_turn", "max_tokens"})
"""Stop reasons whose next turn goes on inside the same answer: no summary comes between."""


def due(state: SessionState, request: OpenRequest) -> bool:
    """Whether the next turn is to be a summary: the one before used more than the agent's memory holds."""
    assert state.plan is not None
    above = state.plan.summarise_above
    if above is None or request.final is not None:
        return False
    return state.context > max(above, (state.summed_up or 0) + above // GROWTH)


def asking(state: SessionState) -> tuple[UserMessage | Results, ...]:
    """What goes before a summary: the results of open calls, and the message that asks for it."""
    ask = UserMessage(
        id=f"{SUMMARY_ID}{state.turn + 1}", digest=message_digest(SUMMARISE), text=SUMMARISE, by="session"
    )
    return (*(each for each in state.incoming if isinstance(each, Results)), ask)


def after(state: SessionState) -> list[UserMessage | Results]:
    """What the turn after a summary answers."""
    left: list[UserMessage | Results] = [each for each in state.incoming if not isinstance(each, Results)]
    go_on = UserMessage(id=f"go-on-{state.turn}", digest=message_digest(GO_ON), text=GO_ON, by="session")
    return left or [go_on]


def take_in(state: SessionState, result: TurnResult) -> None:
    """Note how long the conversation is after a turn, and how long the last summary left it."""
    state.context = 0 if result.stop_reason in GOES_ON else result.usage.total
    if state.summed_up == 0:
        state.summed_up = state.context


def take_in_summary(state: SessionState, result: TurnResult) -> None:
    """The next turn tells how long the conversation is now. A summary that was interrupted shortened nothing."""
    state.context = 0
    state.summed_up = None if result.interrupted else 0
    state.incoming = after(state)
