"""Fault points armed from outside: one file each, taken by the first worker process that gets there.

The file's name says everything: `0007.after_claim.pay_refund.crash`. Whoever takes it renames it, so that two
workers cannot, and so that it is known who did.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from holdfast_activities.faults import FaultPoint

Action = Literal["crash", "freeze"]
TAKEN = ".taken-"


@dataclass(frozen=True)
class Armed:
    """One fault point that is to strike once."""

    number: int
    point: FaultPoint
    of: str
    """A tool's name, or `model`."""
    action: Action

    @property
    def name(self) -> str:
        return f"{self.number:04d}.{self.point}.{self.of}.{self.action}"

    @classmethod
    def of_name(cls, name: str) -> Armed:
        number, point, of, action = name.split(".")
        return cls(int(number), FaultPoint(point), of, "crash" if action == "crash" else "freeze")


@dataclass(frozen=True)
class Armory:
    """The directory that both sides look into."""

    path: Path

    def arm(self, armed: Armed) -> None:
        (self.path / armed.name).touch()

    def struck(self, armed: Armed) -> int | None:
        """Pid of the process that got there; None while nobody has."""
        taken = next(self.path.glob(f"{armed.name}{TAKEN}*"), None)
        return int(taken.name.rpartition("-")[2]) if taken else None

    def disarm(self) -> None:
        for name in os.listdir(self.path):
            if TAKEN not in name:
                (self.path / name).unlink(missing_ok=True)

    def reached(self, point: FaultPoint, of: str) -> None:
        """The worker's `FaultPoints`."""
        for name in os.listdir(self.path):
            if TAKEN in name:
                continue
            armed = Armed.of_name(name)
            if (armed.point, armed.of) == (point, of) and self._take(armed):
                os.kill(os.getpid(), signal.SIGKILL if armed.action == "crash" else signal.SIGSTOP)
                return

    def _take(self, armed: Armed) -> bool:
        try:
            (self.path / armed.name).rename(self.path / f"{armed.name}{TAKEN}{os.getpid()}")
        except FileNotFoundError:
            return False
        return True
