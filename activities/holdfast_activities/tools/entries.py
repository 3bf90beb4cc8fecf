"""From a `[tools.NAME]` table to a declared tool."""

from __future__ import annotations

from typing import Any

from holdfast.config import ToolEntry
from holdfast.errors import DeclarationError
from holdfast.recovery import Idempotent, Never, Operator, Probe, Recovery, Retry, Transactional
from holdfast.states import RecoveryClass, Tier
from holdfast.tools import Tool, redeclare, tool
from holdfast_activities.tools.sources import load, load_function

_AS_GIVEN = (
    *("description", "version", "timeout", "attempts", "result_cap", "required", "fallback"),
    *("owner", "runbook", "service", "cost_usd", "semantic_window", "semantic_scope", "breaker"),
    "inline",
)


def declare(name: str, entry: ToolEntry) -> Tool:
    """Load the function of a table and declare it as the table says.

    Raises:
        DeclarationError: when the code cannot be loaded or the declaration is refused.
    """
    found = load(entry.run)
    changes: dict[str, Any] = {key: value for key in _AS_GIVEN if (value := getattr(entry, key)) is not None}
    if entry.undo is not None:
        changes["undo"] = entry.undo
    if entry.undo_if_unknown is not None:
        changes["undo_if_unknown"] = entry.undo_if_unknown
    if entry.never_undone is not None:
        changes["undo"] = Never(entry.never_undone)
    if entry.semantic_key is not None:
        changes["semantic_key"] = load_function(entry.semantic_key)
    if entry.recovery is not None:
        changes["recovery"] = _recovery(entry.recovery, entry)
    if isinstance(found, Tool):
        return _redeclared(name, entry, found, changes)
    if not callable(found):
        raise DeclarationError(f"[tools.{name}] `{entry.run}` is a {type(found).__name__}, not a function")
    declared: Tool = tool(name=name, tier=entry.tier or Tier.READ, **changes)(found)
    return declared


def _redeclared(name: str, entry: ToolEntry, found: Tool, changes: dict[str, Any]) -> Tool:
    if entry.tier is not None and entry.tier is not found.tier:
        changes["tier"] = entry.tier
        if entry.recovery is None and isinstance(found.recovery, Retry) and entry.tier is not Tier.READ:
            changes["recovery"] = Operator()  # what the class of a read permits, no write may do
    if entry.key_ttl is not None and entry.recovery is None:
        changes["recovery"] = Idempotent(entry.key_ttl)
    return redeclare(found, name=name, **changes)


def _recovery(kind: RecoveryClass, entry: ToolEntry) -> Recovery:
    match kind:
        case RecoveryClass.RETRY:
            return Retry()
        case RecoveryClass.IDEMPOTENT:
            return Idempotent(entry.key_ttl) if entry.key_ttl else Idempotent()
        case RecoveryClass.PROBE:
            assert entry.probe is not None  # the table's own validator
            return Probe(load_function(entry.probe))
        case RecoveryClass.OPERATOR:
            return Operator()
        case RecoveryClass.TRANSACTIONAL:
            return Transactional()
