"""Which queues one process polls, for what, and the workers that do: one main worker, and companions beside it.

Must hold: a queue is polled only by who has the activities that wait there; what nobody would serve is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from temporalio.client import Client
from temporalio.worker import Worker

from holdfast.queues import Queues
from holdfast_workers.capacity import ROLES, Role
from holdfast_workers.settings import SettingsError

OWN: tuple[Role, ...] = ("model", "tools")
"""The roles that may have a queue of their own."""


def served_queues(queues: Queues, serves: Sequence[Role], task_queue: str) -> dict[Role, str]:
    """The queue of each role that a process polls for, the main one's first.

    Args:
        task_queue: the sessions' queue.

    Raises:
        SettingsError: with these roles something would be served by nobody, or by nothing.
    """
    named: dict[Role, str] = {"sessions": task_queue, "model": queues.model, "tools": queues.tools}
    for role in OWN:
        if named[role] == task_queue:
            raise SettingsError(
                f"`[queues] {role}` is `{task_queue}`, which is the sessions' own queue: leave it out, or give "
                f"it another name."
            )
        if not named[role] and (role in serves) != ("sessions" in serves):
            raise SettingsError(_without_queue(role, serves))
    return {role: named[role] for role in ROLES if role in serves and named[role]}


def _without_queue(role: Role, serves: Sequence[Role]) -> str:
    chosen = ", ".join(serves)
    if role in serves:
        return (
            f"This worker serves {chosen}, and holdfast.toml names no queue for `{role}`, so that whoever serves "
            f'sessions runs it. Name one (`[queues] {role} = "holdfast-{role}"`), or serve `sessions` too.'
        )
    return (
        f"This worker serves {chosen} without `{role}`, and holdfast.toml names no queue for it, so that nobody "
        f'would run it. Name one (`[queues] {role} = "holdfast-{role}"`), or serve `{role}` too.'
    )


def companion(main: Worker, task_queue: str, activities: Sequence[Callable[..., Any]], *, at_once: int) -> Worker:
    """A worker for activities of another queue, with the converter, interceptors and patience of the main one."""
    config = main.config(active_config=True)
    return Worker(
        without_plugins(main.client),
        task_queue=task_queue,
        activities=activities,
        max_concurrent_activities=at_once,
        interceptors=config["interceptors"],
        identity=config["identity"],
        max_heartbeat_throttle_interval=config["max_heartbeat_throttle_interval"],
        default_heartbeat_throttle_interval=config["default_heartbeat_throttle_interval"],
        graceful_shutdown_timeout=config["graceful_shutdown_timeout"],
    )


def without_plugins(client: Client) -> Client:
    """The same connection: what plugins did to the client stays, and they do nothing to its workers."""
    config: Mapping[str, Any] = client.config(active_config=True)
    return Client(**{**config, "plugins": []})


@asynccontextmanager
async def running(companions: Sequence[Worker]) -> AsyncIterator[None]:
    """Run them for the length of the block, then shut them down together.

    One that fails cancels the block, and its error is raised.
    """
    async with AsyncExitStack() as beside:
        for each in companions:
            await beside.enter_async_context(each)
        try:
            yield
        finally:
            await asyncio.gather(*(each.shutdown() for each in companions))
