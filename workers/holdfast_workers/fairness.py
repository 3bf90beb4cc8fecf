"""Whose sessions go first where more wait than the workers have room for: Temporal's priority and fairness keys.

A session's turns, calls and unwinds inherit them. Where nothing waits they change nothing.
"""

from __future__ import annotations

from temporalio.common import Priority

from holdfast import ids
from holdfast.messages import Principal
from holdfast_workers.settings import Fairness

MAX_KEY_BYTES = 64
"""Temporal takes no longer key."""


def priority_of(principal: Principal, fairness: Fairness, priority: int | None) -> Priority:
    """Args:
    priority: 1, the most urgent, to 5; None leaves it to the server, which means 3.
    """
    name = {"off": None, "tenant": principal.tenant, "user": principal.on_behalf_of or principal.requested_by}
    key = name[fairness]
    if key is not None and len(key.encode("utf-8", "replace")) > MAX_KEY_BYTES:
        key = ids.digest(key.encode("utf-8", "surrogatepass"))[:MAX_KEY_BYTES]
    return Priority(priority_key=priority, fairness_key=key)
