"""Where a window or pruning begins: the steps that a conversation took, each when the API counted too much.

A step follows from the stored messages up to it alone, so every worker and attempt takes the same ones.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence

from holdfast.memory import Memory
from holdfast_ledger.records import StoredMessage

KEPT = 200
"""Conversations whose steps a worker keeps: as many as the sessions it keeps by default."""
LOOK_BACK = 50
"""Messages before a turn among which the end of an earlier one is looked for."""

_Place = tuple[str, str, int, int]


def _place(message: StoredMessage, memory: Memory) -> _Place:
    return (message.head, memory.strategy, memory.above, memory.down_to)


class StepsTaken:
    """Steps by the head they lead to: a head names all messages before it, so the next turn goes on from there."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Place, Steps] = OrderedDict()

    def up_to(self, transcript: Sequence[StoredMessage], memory: Memory) -> Steps:
        """The steps taken by the end of these messages, oldest first; they are the caller's own."""
        begin, steps = self._earlier(transcript, memory)
        for index in range(begin, len(transcript)):
            steps.take_in(index, transcript[index])
        if transcript:
            self._kept[_place(transcript[-1], memory)] = steps.copied()
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return steps

    def _earlier(self, transcript: Sequence[StoredMessage], memory: Memory) -> tuple[int, Steps]:
        """How many messages were gone through before, and the steps by then."""
        for index in range(len(transcript) - 1, max(len(transcript) - 1 - LOOK_BACK, -1), -1):
            if (known := self._kept.pop(_place(transcript[index], memory), None)) is not None:
                return index + 1, known
        return 0, Steps(memory)


class Steps:
    """The steps that a window or pruning took so far, and where they put the boundary."""

    def __init__(self, memory: Memory) -> None:
        self._above = memory.above
        self._down_to = memory.down_to
        self._window = memory.strategy == "window"
        self.boundary = 0
        """Index of the oldest message that the last step left as it is: an answer, or 0 before the first step."""
        self.known: int | None = None
        """See `Remembered`. A step changes it to nobody knows what."""
        self._before = 0
        self._grown = 0
        """Tokens added since the last step."""
        self._answers: list[tuple[int, int]] = []
        """Those behind the boundary: index, and the tokens that it and what came before it added."""

    def copied(self) -> Steps:
        other = copy.copy(self)
        other._answers = list(self._answers)
        return other

    def take_in(self, index: int, message: StoredMessage) -> None:
        """Go on over the message of this index."""
        if message.role != "assistant" or message.context is None:
            return
        if message.counted is not None:
            self.before_turn(message.counted)
        self.after_turn(index, message.context)

    @property
    def room_above(self) -> int | None:
        if not self._answers or self.boundary == self._answers[-1][0]:
            return None
        if self.known is None:
            return self._above  # the provider's cache is lost already, so another step costs nothing
        return max(self._above, self.known + self._patience - self._grown)

    @property
    def _patience(self) -> int:
        """Where a step makes less room than it should, the next one waits: each costs the provider's cache."""
        return self._above - self._down_to

    def after_turn(self, index: int, context: int) -> None:
        """Take in an answer; the step it leads to is taken before the next turn."""
        added = max(context - self._before, 0)
        self._before = self.known = context
        self._grown += added
        self._answers.append((index, added))
        if context > self._above and self._grown > self._patience:
            self._step(self._down_to)

    def before_turn(self, counted: int) -> None:
        """What came after the newest answer made the request too long."""
        self._step(-1 if self.known is None else self._down_to - (counted - self.known))

    def _step(self, down_to: int) -> None:
        """Move the boundary so that no more tokens than these are kept, but for the newest answer."""
        if not self._answers:
            return
        self.boundary, kept = self._answers[-1]
        for index, added in reversed(self._answers[:-1]):
            if kept + added > down_to:
                break
            self.boundary, kept = index, kept + added
        self._answers = [each for each in self._answers if each[0] >= self.boundary]
        self._grown = 0
        self.known = None
        if self._window:
            self._before = kept  # else the rest is still sent, shorter by nobody knows how much
