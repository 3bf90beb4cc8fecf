"""Tools of every recovery class that call the test service; `path` says what goes wrong."""

import asyncio
import time
from typing import Any

import httpx2
from temporalio import activity

from holdfast import (
    DidNotHappen,
    Idempotent,
    Inconclusive,
    Landed,
    Never,
    Operator,
    Probe,
    ToolContext,
    ToolRefused,
    ToolUnavailable,
    Transactional,
    tool,
)

FINAL = Never("the test service keeps what it has")


async def _send(ctx: ToolContext, method: str, path: str) -> dict[str, Any]:
    """Declared failures by name; everything else is a request to the service."""
    match path:
        case "refuse":
            raise ToolRefused("no such account")
        case "unavailable":
            raise ToolUnavailable("the desk is closed")
        case "boom":
            await ctx.http.request(method, ctx.labels["service"] + "/ok")
            raise KeyError("a bug right after the request, near card 4929")
        case "second-refused":
            await ctx.http.request(method, ctx.labels["service"] + "/ok")
            await ctx.http.request(method, ctx.labels["nobody"])
        case "nobody":
            await ctx.http.request(method, ctx.labels["nobody"])
    response = await ctx.http.request(method, f"{ctx.labels['service']}/{path}")
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer


@tool(timeout="400ms", attempts=3)
async def look(ctx: ToolContext, path: str) -> dict[str, Any]:
    """Read something at `path` of the test service."""
    return await _send(ctx, "GET", path)


@tool(tier="irreversible", recovery=Operator(), undo=FINAL, timeout="400ms", attempts=3)
async def pay_blindly(ctx: ToolContext, path: str) -> dict[str, Any]:
    """Do something at `path` that only a person can check."""
    return await _send(ctx, "POST", path)


@tool(tier="irreversible", recovery=Idempotent("24h"), undo=FINAL, timeout="400ms", attempts=3)
async def pay(ctx: ToolContext, path: str) -> dict[str, Any]:
    """Do something at `path` under a key."""
    return await _send(ctx, "POST", path)


async def _ask(ctx: ToolContext, path: str) -> Landed | DidNotHappen | Inconclusive:
    answer = await ctx.http.get(f"{ctx.labels['service']}/probe/{ctx.idempotency_key}")
    match answer.json()["said"]:
        case "landed":
            return Landed({"found": True})
        case "never":
            return DidNotHappen(final=True)
        case "not yet":
            return DidNotHappen(final=False)
        case _:
            return Inconclusive("the service does not tell")


@tool(tier="irreversible", recovery=Probe(_ask), undo=FINAL, timeout="400ms", attempts=3)
async def pay_and_ask(ctx: ToolContext, path: str) -> dict[str, Any]:
    """Do something at `path` of a service that can be asked about it."""
    return await _send(ctx, "POST", path)


@tool(tier="irreversible", recovery=Transactional(), undo=FINAL, timeout="2s", attempts=3)
async def note(ctx: ToolContext, path: str) -> str:
    """Write `path` into our own database."""
    await ctx.transaction.execute("INSERT INTO notes (body) VALUES ($1)", path)
    if path == "refuse":
        raise ToolRefused("this note is not wanted")
    if path == "boom":
        raise KeyError("a bug")
    return "noted"


@tool(tier="irreversible", recovery=Idempotent(), undo=FINAL)
async def release(ctx: ToolContext, hold_id: str) -> str:
    """Release the hold `hold_id`."""
    return hold_id


@tool(
    tier="reversible",
    recovery=Idempotent(),
    undo=release,
    undo_args=lambda args, result: {"hold_id": result["hold_id"]},
    cost_usd=0.05,
)
async def hold(ctx: ToolContext, path: str) -> dict[str, Any]:
    """Hold something, undoably; `path` names the field of the result."""
    return {path: "HLD-1"}


@tool(tier="irreversible", recovery=Operator(), undo=FINAL, timeout="5s")
def slow_thread(ctx: ToolContext, path: str) -> str:
    """Write from a thread: tell the service, then wait until it says go."""
    httpx2.post(f"{ctx.labels['service']}/{path}")
    return "written"


@tool(tier="irreversible", recovery=Operator(), undo=FINAL, timeout="20s")
async def pay_through_a_cancel(ctx: ToolContext, path: str) -> bool:
    """Do something at `path`, and end only after Temporal has cancelled the activity."""
    await _send(ctx, "POST", path)
    while (details := activity.cancellation_details()) is None:  # noqa: ASYNC110 - Temporal offers no event for it
        await asyncio.sleep(0.01)
    return details.worker_shutdown


@tool(timeout="200ms", attempts=1)
def endless_read(ctx: ToolContext, path: str) -> str:
    """Read for ever, telling that it lives."""
    while True:
        ctx.heartbeat()
        time.sleep(0.01)


@tool(timeout="10s")
async def wait_for_ever(ctx: ToolContext, path: str) -> str:
    """Read something that never comes."""
    await asyncio.Event().wait()
    return "never"


@tool(result_cap=400)
async def returns(ctx: ToolContext, path: str) -> Any:
    """Return something odd, named by `path`."""
    odd: dict[str, Any] = {
        "nothing": None,
        "text": "größer",
        "nan": {"rate": float("nan"), "ok": 1},
        "bytes": b"\xff\x00",
        "object": object(),
        "surrogate": "\ud800",
        "set": {1},
        "long": "x" * 1000 + "THE END",
        "huge": "y" * 50_000_000,
    }
    odd["cycle"] = odd
    return odd[path]


@tool
async def typed(ctx: ToolContext, path: str) -> int:
    """Return a number, except for what `path` asks."""
    return path  # type: ignore[return-value]  # the mistake under test


@tool
async def secret_reader(ctx: ToolContext, path: str) -> int:
    """Read the secret named `path` and tell its length."""
    return len(ctx.secret(path))
