"""Calls in doubt whose service can be asked: one activity per call asks, and asks again, while the session is held.

The activity's own retries are the growing pauses, so that waiting for the truth adds no event to history.
"""

from __future__ import annotations

from collections.abc import Callable

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from holdfast.contracts import CallOutcome
from holdfast.states import RecoveryClass
from holdfast_workflows import calls
from holdfast_workflows.state import OpenCall, OpenTurn, SessionState

Probe = workflow.ActivityHandle[CallOutcome]


class Probing:
    def __init__(self, state: SessionState, start: Callable[[OpenTurn, OpenCall], Probe]) -> None:
        """Args:
        start: schedules the activity that asks about a call.
        """
        self._state = state
        self._start = start
        self._asking: dict[str, Probe] = {}

    def tend(self, turn: OpenTurn) -> None:
        """Ask about every call in doubt that has a probe; stop asking about what somebody settled."""
        for call in turn.calls:
            doubted = call.unknown is not None and not call.settled
            if doubted and call.number not in self._asking:
                if calls.plan_of(self._state, call).recovery is RecoveryClass.PROBE:
                    self._asking[call.number] = self._start(turn, call)
            elif not doubted:
                self._stop(call.number)

    def ask_now(self, number: str) -> None:
        """Drop the pause: `tend` asks anew."""
        self._stop(number)

    def has_news(self) -> bool:
        return any(asking.done() for asking in self._asking.values())

    def answers(self) -> list[tuple[str, CallOutcome]]:
        """What was found out since the last look, by call."""
        found: list[tuple[str, CallOutcome]] = []
        for number in [number for number, asking in self._asking.items() if asking.done()]:
            try:
                found.append((number, self._asking.pop(number).result()))
            except ActivityError as error:
                if not is_cancelled_exception(error):
                    raise
        return found

    def stop(self) -> None:
        """Ask no more: the request ends, or another run goes on."""
        for number in list(self._asking):
            self._stop(number)

    def _stop(self, number: str) -> None:
        asking = self._asking.pop(number, None)
        if asking is not None:
            asking.add_done_callback(_forget)
            asking.cancel()


def _forget(asking: Probe) -> None:
    if not asking.cancelled():
        asking.exception()
