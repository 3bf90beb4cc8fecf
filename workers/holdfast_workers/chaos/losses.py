"""Losing a database for good: an older copy comes back, or nothing does. Nothing may be run on such a guess."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from holdfast_workers.chaos.crowd import Crowd
from holdfast_workers.chaos.house import House
from holdfast_workers.chaos.people import Approver

Tell = Callable[[str], None]
Lose = Callable[[House, Crowd, Approver, Tell], Awaitable[list[str]]]
"""Returns the promises that broke, in words."""

LOSE: Mapping[str, Lose] = {}
