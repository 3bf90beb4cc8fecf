"""What it makes of an effect that somebody found out it happened: its result, what the model sees, its undo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from holdfast.catalogue import Catalogue, ToolCard
from holdfast.errors import HoldfastError
from holdfast.states import Tier
from holdfast.tools import Tool
from holdfast_activities.calls.rendering import render
from holdfast_activities.calls.undo import undo_of
from holdfast_activities.redaction import Redactor
from holdfast_ledger.records import Undo


class ResultMisfit(HoldfastError):
    """The result does not fit the tool's declared type."""

    code = "invalid"


@dataclass(frozen=True, kw_only=True)
class Found:
    """`result` is canonical JSON, `shown` what the model reads where that differs."""

    result: bytes
    shown: bytes | None
    digest: str
    undo: Undo | None
    evidence: Mapping[str, Any]


def landed(
    declared: Tool,
    catalogue: Catalogue,
    card: ToolCard,
    *,
    call: str,
    args: Mapping[str, Any],
    value: Any,
    redactor: Redactor,
) -> Found:
    """The effect landed with `value`, as its tool would have returned it.

    Args:
        call: TURN.INDEX.
        args: as JSON values.
    """
    rendered = render(declared, value, call=call, cap=card.result_cap, redactor=redactor)
    reads = card.tier is Tier.READ
    undo, evidence = (None, {}) if reads else undo_of(declared, catalogue, args, rendered.value)
    return Found(
        result=rendered.result,
        shown=rendered.shown,
        digest=rendered.digest,
        undo=undo,
        evidence={**evidence, **rendered.evidence},
    )


def checked(declared: Tool, given: str) -> Any:
    """A result that a person gives, as JSON text. Raises `ResultMisfit`, naming what is wrong."""
    try:
        return declared.result.validate_json(given)
    except ValidationError as error:
        problems = "; ".join(
            f"`{'.'.join(map(str, each['loc'])) or 'result'}`: {each['msg']}"
            for each in error.errors(include_url=False, include_context=False, include_input=False)
        )
        raise ResultMisfit(f"This is no result of `{declared.name}`: {problems}.") from error
