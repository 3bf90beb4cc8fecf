"""Reading the part of a long result that the model was not shown."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from holdfast.errors import ToolRefused
from holdfast.tools import ToolContext, tool
from holdfast_activities.calls.rendering import readable
from holdfast_activities.resources import resources

MAX_SLICE = 15_000

CallNumber = Annotated[
    str, Field(pattern=r"^\d+\.\d+$", description='Number of the call as its result names it, e.g. "3.1".')
]
Offset = Annotated[int, Field(ge=0, description="Character to start at, e.g. 8000.")]
Limit = Annotated[int, Field(ge=1, le=MAX_SLICE, description="Characters to read, e.g. 4000.")]


@tool(timeout="10s", result_cap=MAX_SLICE + 500)
async def read_result(ctx: ToolContext, call: CallNumber, offset: Offset = 0, limit: Limit = 4000) -> str:
    """Read a part of an earlier call's result in this session.

    Use it when a result was cut and says so; the number of the call stands in the cut. Do not call the original
    tool again for the rest: its answer may have changed.
    """
    body = await resources(ctx).read_result(ctx.session_id, call)
    if body is None:
        raise ToolRefused(f"call {call} has no kept result in this session")
    text = readable(body)
    part = text[offset : offset + limit]
    if not part:
        raise ToolRefused(
            f"the result of call {call} has {len(text)} characters; offset {offset} is beyond its end"
        )
    return f"[characters {offset} to {offset + len(part)} of {len(text)}]\n{part}"
