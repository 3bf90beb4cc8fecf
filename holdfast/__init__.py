"""Holdfast's pure core: the data that crosses processes, tool and policy declarations, effect ids.

Nothing here does I/O or reads a clock, so workflow code may call all of it.
"""

from holdfast.errors import DeclarationError, HoldfastError, ToolError, ToolRefused, ToolUnavailable
from holdfast.recovery import (
    DidNotHappen,
    Idempotent,
    Inconclusive,
    Landed,
    Never,
    Operator,
    Probe,
    Retry,
    Transactional,
)
from holdfast.states import CallStatus, EffectState, RecoveryClass, SessionStatus, Tier
from holdfast.tools import Tool, ToolContext, tool

__all__ = [
    "CallStatus",
    "DeclarationError",
    "DidNotHappen",
    "EffectState",
    "HoldfastError",
    "Idempotent",
    "Inconclusive",
    "Landed",
    "Never",
    "Operator",
    "Probe",
    "RecoveryClass",
    "Retry",
    "SessionStatus",
    "Tier",
    "Tool",
    "ToolContext",
    "ToolError",
    "ToolRefused",
    "ToolUnavailable",
    "Transactional",
    "tool",
]
