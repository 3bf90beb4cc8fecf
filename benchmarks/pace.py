"""How fast this machine is at the moment. Who shares its cores slows it down, and no load average shows that."""

from __future__ import annotations

import time
from statistics import median

STEPS = 300_000
TIMES = 5


def pace_ms() -> float:
    """Milliseconds that the same piece of work takes, on a core that has nothing else to do."""
    return round(median(_once() for _ in range(TIMES)) * 1000, 1)


def _once() -> float:
    began = time.perf_counter()
    total = 0
    for step in range(STEPS):
        total += step * step
    return time.perf_counter() - began
