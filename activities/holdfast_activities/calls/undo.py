"""The compensation of a step, as data: which tool with which arguments, recorded when the step has landed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.catalogue import Catalogue, ToolCard
from holdfast.ids import canonical
from holdfast.tools import Tool
from holdfast_ledger.records import Undo


def undo_of(
    declared: Tool, catalogue: Catalogue, args: Mapping[str, Any], result: Any
) -> tuple[Undo | None, dict[str, Any]]:
    """The registered undo, and evidence where its arguments could not be made: the step has landed all the same.

    Args:
        args, result: as JSON values.
    """
    card = catalogue.compensation(declared.undo_name)
    if card is None:
        return None, {}
    try:
        made = declared.undo_args(dict(args), result) if declared.undo_args else _by_name(card, args, result)
        body = canonical(made)
    except Exception as error:  # the author's function
        return None, {"undo_error": type(error).__name__}
    missing = [key for key in card.input_schema.get("required", ()) if key not in made]
    evidence = {"undo_missing": missing} if missing else {}
    return Undo(tool=card.name, version=card.version, args=body), evidence


def unknown_undo_args(declared: Tool, card: ToolCard, args: Mapping[str, Any]) -> dict[str, Any]:
    """What the `undo_if_unknown` of a step takes: the arguments it names, else what `undo_args` makes of them.

    Raises whatever the author's `undo_args` raises without a result.
    """
    made = _by_name(card, args, None)
    if declared.undo_args is None or set(card.input_schema.get("required", ())) <= set(made):
        return made
    return declared.undo_args(dict(args), None)


def _by_name(card: ToolCard, args: Mapping[str, Any], result: Any) -> dict[str, Any]:
    """Without `undo_args`: what the undo takes, from the result where it has it, else from the arguments."""
    known = {**args, **(result if isinstance(result, Mapping) else {})}
    return {name: known[name] for name in card.input_schema.get("properties", {}) if name in known}
