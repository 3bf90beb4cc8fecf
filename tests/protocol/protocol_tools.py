"""One tool of each recovery class, over the simulated service."""

from __future__ import annotations

from holdfast import (
    DidNotHappen,
    Idempotent,
    Landed,
    Never,
    Operator,
    Probe,
    Retry,
    ToolContext,
    ToolRefused,
    ToolUnavailable,
    Transactional,
    tool,
)
from tests.protocol.simulated import AFTER_EFFECT, BEFORE_EFFECT, PROCESS, Process

ATTEMPTS = 4
FINAL = Never("the service keeps what it has")


def _process() -> Process:
    process = PROCESS.get()
    assert process is not None
    return process


def _clean_failure(process: Process) -> None:
    if process.service.mood == "refuses":
        raise ToolRefused("no such account")
    if process.service.mood == "away":
        raise ToolUnavailable("the desk is closed")


async def _send(ctx: ToolContext, *, dedupes: bool = False) -> str:
    process = _process()
    _clean_failure(process)
    begun = process.service.begin()
    await process.reach(BEFORE_EFFECT)
    process.sent += 1
    if not await process.service.receive(process.effect_id, ctx.idempotency_key, begun, dedupes=dedupes):
        raise ToolRefused("too late")
    await process.reach(AFTER_EFFECT)
    if process.service.mood == "breaks after it committed":
        raise KeyError("a bug right after the request")
    return "done"


@tool(recovery=Retry(), timeout="20s", attempts=ATTEMPTS)
async def retry(ctx: ToolContext, n: int) -> str:
    """Read something."""
    return await _send(ctx)


@tool(tier="irreversible", recovery=Idempotent("24h"), undo=FINAL, timeout="20s", attempts=ATTEMPTS)
async def idempotent(ctx: ToolContext, n: int) -> str:
    """Write under a key that the service remembers."""
    return await _send(ctx, dedupes=True)


async def _ask(ctx: ToolContext, n: int) -> Landed | DidNotHappen:
    return Landed("done") if _process().service.happened(ctx.idempotency_key) else DidNotHappen(final=True)


@tool(tier="irreversible", recovery=Probe(_ask), undo=FINAL, timeout="20s", attempts=ATTEMPTS)
async def probe(ctx: ToolContext, n: int) -> str:
    """Write to a service that can be asked about it."""
    return await _send(ctx)


@tool(tier="irreversible", recovery=Operator(), undo=FINAL, timeout="20s", attempts=ATTEMPTS)
async def operator(ctx: ToolContext, n: int) -> str:
    """Write something that only a person can check."""
    return await _send(ctx)


@tool(tier="irreversible", recovery=Transactional(), undo=FINAL, timeout="20s", attempts=ATTEMPTS)
async def transactional(ctx: ToolContext, n: int) -> str:
    """Write into our own database."""
    process = _process()
    _clean_failure(process)
    await process.reach(BEFORE_EFFECT)
    process.sent += 1
    await process.service.count(process.effect_id)
    await ctx.transaction.execute("INSERT INTO protocol_note (effect_id) VALUES ($1)", process.effect_id)
    await process.reach(AFTER_EFFECT)
    if process.service.mood == "breaks after it committed":
        raise KeyError("a bug right after the write")
    return "done"
