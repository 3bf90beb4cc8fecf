"""Tools and models of the sagas in these tests: declared at a module's top, as any author's are."""

from __future__ import annotations

from pydantic import BaseModel

from holdfast import Idempotent, Never, Operator, ToolContext, tool

KEY = Idempotent("24h")


class Given(BaseModel):
    n: int = 1


class Got(BaseModel):
    said: list[str] = []


class Answer(BaseModel):
    said: str


@tool
async def look(what: str) -> Answer:
    """Look at something."""
    return Answer(said=what)


@tool(tier="irreversible", recovery=KEY, undo=Never("it undoes a reservation itself"))
async def release(ctx: ToolContext, what: str) -> Answer:
    """Give a reservation back."""
    return Answer(said=what)


@tool(tier="reversible", recovery=KEY, undo=release, undo_args=lambda args, result: args)
async def reserve(ctx: ToolContext, what: str) -> Answer:
    """Reserve something."""
    return Answer(said=what)


@tool(tier="irreversible", recovery=KEY, undo=Never("payments are final"))
async def pay(ctx: ToolContext, what: str) -> Answer:
    """Pay."""
    return Answer(said=what)


@tool(tier="irreversible", recovery=KEY)
async def shout(ctx: ToolContext, what: str) -> Answer:
    """Shout; nobody said how it is undone."""
    return Answer(said=what)


@tool(tier="irreversible", recovery=KEY, undo=Never("a mail that was sent stays sent"))
async def mail(ctx: ToolContext, what: str) -> Answer:
    """Send a mail."""
    return Answer(said=what)


@tool(tier="privileged", recovery=Operator(), undo=release)
async def grant(what: str) -> Answer:
    """Grant a role."""
    return Answer(said=what)


@tool(tier="reversible", recovery=Operator(), undo=release, handled="workflow")
async def wait_for(what: str) -> Answer:
    """Wait in the workflow."""
    return Answer(said=what)
