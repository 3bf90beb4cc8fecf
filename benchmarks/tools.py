"""The tool all sides call: as good as free, so that only what surrounds it is measured."""

from __future__ import annotations

from datetime import timedelta

from holdfast import tool
from holdfast.tools import redeclare


@tool
async def look(what: str) -> str:
    """Look at something."""
    return f"{what} is fine"


quick_look = redeclare(look, inline=True, timeout=timedelta(seconds=1))
