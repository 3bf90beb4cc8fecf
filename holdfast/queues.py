"""Task queues of their own for model calls and for tools, where an operator wants limits or machines of their own.

Without one they run on the session's own queue, which is faster: an activity of the same queue starts inside the
answer to the workflow task that scheduled it (docs/decisions/0006).
"""

from __future__ import annotations

from holdfast.wire import Wire


class Queues(Wire):
    """Carried in plans, so that a workflow decides nothing from configuration. Empty: the workflow's own queue."""

    model: str = ""
    """`model_turn`."""
    tools: str = ""
    """Whatever runs a tool's code: `execute_call`, `probe_call`, `execute_step`, `compensate`, `settle_effect`."""
