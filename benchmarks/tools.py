"""The tools that benchmarks call: as good as free, so that only what surrounds them is measured."""

from __future__ import annotations

from datetime import timedelta

from holdfast import tool
from holdfast.recovery import Never
from holdfast.tools import redeclare


@tool
async def look(what: str) -> str:
    """Look at something."""
    return f"{what} is fine"


quick_look = redeclare(look, inline=True, timeout=timedelta(seconds=1))


@tool(tier="irreversible", undo=Never("nobody is paid"))
async def pay(what: str) -> str:
    """Pay for something."""
    return f"{what} is paid"
