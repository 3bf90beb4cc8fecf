"""The tools that benchmarks call: as good as free, so that only what surrounds them is measured."""

from __future__ import annotations

from datetime import timedelta

from holdfast import tool
from holdfast.recovery import Never
from holdfast.tools import redeclare

LINE = "The river rose in the night, and by morning the lower meadow stood under water. "
PAGE = 900
"""Characters: a thousand pages are more than 200,000 tokens."""


def seen(what: str) -> str:
    """What is seen of it, a pure function: a page is long, anything else is fine."""
    if what.startswith("page"):
        return f"{what}: {LINE * (PAGE // len(LINE))}"
    return f"{what} is fine"


@tool
async def look(what: str) -> str:
    """Look at something."""
    return seen(what)


quick_look = redeclare(look, inline=True, timeout=timedelta(seconds=1))


@tool(tier="irreversible", undo=Never("nobody is paid"))
async def pay(what: str) -> str:
    """Pay for something."""
    return f"{what} is paid"
