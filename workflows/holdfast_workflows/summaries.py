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
GOES_ON = frozenset({"pause_turn", "max_tokens"})
"""Stop reasons whose next turn goes on inside the same answer: no summary comes between."""


def due(state: SessionState, request: OpenRequest) -> bool:
    """Whether the next turn is to be a summary: the one before used more than the agent's memory holds."""
    assert state.plan is not None
    above = state.plan.summarise_above
    return above is not None and state.context > above and request.final is None


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


def size(result: TurnResult) -> int:
    """Tokens of a turn that the next may have to shorten."""
    return 0 if result.stop_reason in GOES_ON else result.usage.total
