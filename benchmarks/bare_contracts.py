"""What crosses the wire between the bare loop and its activities."""

from __future__ import annotations

from temporalio import activity

from holdfast.wire import Wire


class Job(Wire):
    """`turns` turns with one call each, and a last one without. `verb` is what the model is asked to do."""

    turns: int
    verb: str = "work"


class Ask(Wire):
    """The `turn`-th model call, counted from 0. Its messages are rebuilt from the number alone."""

    job: Job
    turn: int


class Look(Wire):
    tool_use_id: str
    what: str


class Said(Wire):
    stop_reason: str | None = None
    call: Look | None = None


@activity.defn
async def ask_model(ask: Ask) -> Said:
    raise NotImplementedError


@activity.defn
async def look(call: Look) -> str:
    raise NotImplementedError
