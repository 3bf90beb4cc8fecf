"""What can go wrong with the embedded stack, each saying what to do next."""

from __future__ import annotations

from pathlib import Path

from holdfast.errors import HoldfastError


class StackError(HoldfastError):
    """The embedded stack cannot do what was asked."""


class StartFailed(StackError):
    """A process of the stack ended, or did not become ready in time. Carries the end of its log."""

    def __init__(self, name: str, reason: str, log_tail: str) -> None:
        self.name = name
        self.log_tail = log_tail
        said = f"\nIts log ends:\n{log_tail}" if log_tail else "\nIts log is empty."
        super().__init__(f"`{name}` {reason}.{said}")


class AlreadyRunning(StackError):
    """A supervisor of this home lives already."""

    def __init__(self, home: Path) -> None:
        super().__init__(f"The stack of `{home}` is already running; `holdfast down` stops it.")
