"""Steps of every kind over the test service; `path` says what goes wrong, of the step and of its undo."""

from __future__ import annotations

from typing import Any

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
    tool,
)

FINAL = Never("payments are final")


async def _post(ctx: ToolContext, path: str) -> dict[str, Any]:
    if path == "refuse":
        raise ToolRefused("no such booking")
    response = await ctx.http.post(f"{ctx.labels['service']}/{path}")
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer


@tool(tier="irreversible", recovery=Idempotent("24h"), undo=FINAL, timeout="10s")
async def unbook(ctx: ToolContext, undo_path: str) -> dict[str, Any]:
    """Undo a booking by `undo_path`."""
    assert ctx.undo_key is not None
    return await _post(ctx, undo_path)


@tool(tier="irreversible", recovery=Idempotent("24h"), undo=FINAL, timeout="10s")
async def cancel(ctx: ToolContext, path: str) -> dict[str, Any]:
    """Cancel what was sent under the step's key, if it exists."""
    return await _post(ctx, f"cancel/{ctx.undo_key}/{path}")


@tool(tier="reversible", recovery=Idempotent("24h"), undo=unbook, timeout="10s", cost_usd=0.05)
async def book(ctx: ToolContext, path: str, undo_path: str = "ok") -> dict[str, Any]:
    """Book at `path`, of a service that knows its keys."""
    return await _post(ctx, path)


@tool(tier="reversible", recovery=Operator(), undo=unbook, undo_if_unknown=cancel, timeout="10s")
async def book_blindly(ctx: ToolContext, path: str, undo_path: str = "ok") -> dict[str, Any]:
    """Book at `path`; only a person can tell whether it happened."""
    return await _post(ctx, path)


async def _ask(ctx: ToolContext, path: str, undo_path: str) -> Landed | DidNotHappen | Inconclusive:
    answer = await ctx.http.get(f"{ctx.labels['service']}/probe/{ctx.idempotency_key}")
    match answer.json()["said"]:
        case "landed":
            return Landed({"found": True})
        case "never":
            return DidNotHappen(final=True)
        case _:
            return Inconclusive("the service does not tell")


@tool(tier="reversible", recovery=Probe(_ask), undo=unbook, timeout="10s")
async def book_and_ask(ctx: ToolContext, path: str, undo_path: str = "ok") -> dict[str, Any]:
    """Book at `path`, of a service that can be asked."""
    return await _post(ctx, path)


@tool(tier="irreversible", recovery=Idempotent("24h"), undo=FINAL, timeout="10s")
async def pay(ctx: ToolContext, path: str) -> dict[str, Any]:
    """Pay at `path`, for good."""
    return await _post(ctx, path)


def _no_arguments(args: dict[str, Any], result: Any) -> dict[str, Any]:
    return {"undo_path": result["absent"]}


@tool(tier="reversible", recovery=Idempotent("24h"), undo=unbook, undo_args=_no_arguments, timeout="10s")
async def book_oddly(ctx: ToolContext, path: str) -> dict[str, Any]:
    """Book at `path`; the arguments of its undo cannot be made."""
    return await _post(ctx, path)


@tool(timeout="10s")
async def look(ctx: ToolContext, size: int) -> str:
    """Read `size` characters."""
    return "x" * size
