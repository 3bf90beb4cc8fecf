"""The tool both sides call: as good as free, so that only what surrounds it is measured."""

from __future__ import annotations

from holdfast import tool


@tool
async def look(what: str) -> str:
    """Look at something."""
    return f"{what} is fine"
