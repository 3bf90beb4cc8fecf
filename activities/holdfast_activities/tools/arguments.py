"""Checking what the model wants to call: its arguments, what policy may know of them, and a preview for people.

Nothing here runs a tool. A call that does not fit gets a text precise enough for the model to repair it; that text
enters Temporal's history, so it names arguments and never quotes their values.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from holdfast.catalogue import ToolCard
from holdfast.errors import ToolRefused
from holdfast.ids import canonical
from holdfast.states import RecoveryClass, Tier
from holdfast.tools import MAX_FACTS_BYTES, Tool

MAX_PREVIEW = 300
MAX_VALUE_PREVIEW = 80
MAX_PROBLEMS = 10
_SECRET = re.compile(
    r"pass(word|phrase|wd)?$|secret|token|api_?key|authorization|credential|cookie|private_?key", re.I
)
_log = logging.getLogger("holdfast.tools")


@dataclass(frozen=True, kw_only=True)
class CheckedCall:
    """A call that fits: arguments as canonical JSON bytes, defaults filled in, exactly as they will run."""

    args: bytes
    preview: str
    tier: Tier
    """Of these arguments."""
    recovery: RecoveryClass
    facts: Mapping[str, Any] = field(default_factory=dict)
    means: str | None = None
    """What the tool's `semantic_key` says of the arguments."""


@dataclass(frozen=True)
class Misfit:
    """Why a call cannot run, for the model."""

    text: str


def check_call(declared: Tool, card: ToolCard, given: Any) -> CheckedCall | Misfit:
    """Check one tool_use's `input` against the tool; `given` is whatever the model produced."""
    if not isinstance(given, Mapping):
        return Misfit(f"`{card.name}` takes a JSON object of arguments; this call gave {_kind(given)}.")
    try:
        arguments = declared.arguments.model_validate(dict(given))
        args = _as_run(declared, arguments, given)
    except ValidationError as error:
        return Misfit(_explain(card, error))
    except (ValueError, TypeError):  # NaN or infinity
        return Misfit(f"The arguments of `{card.name}` are not all valid JSON values; nothing was run.")
    try:
        facts = facts_of(declared, arguments)
        tier = Tier(facts.get("tier", card.tier))
        means = meaning_of(declared, arguments) if tier is not Tier.READ else None
    except ToolRefused as error:
        return Misfit(str(error))
    except Exception as error:  # the author's own function: whatever it raises, the call must not run unjudged
        _log.exception(
            "facts or semantic key failed",
            extra={"tool": card.name, "error": type(error).__name__, "keys": sorted(map(str, given))},
        )
        return Misfit(f"`{card.name}` cannot judge these arguments, so it was not run.")
    return CheckedCall(
        args=args,
        preview=preview(given),
        facts=facts,
        tier=tier,
        recovery=recovery_for(card, tier),
        means=means,
    )


def recovery_for(card: ToolCard, tier: Tier) -> RecoveryClass:
    """A write tool whose arguments make it a read may be repeated freely."""
    return RecoveryClass.RETRY if tier is Tier.READ else card.recovery


def facts_of(declared: Tool, arguments: BaseModel) -> dict[str, Any]:
    """The tool's facts of these arguments, flat and small.

    Raises:
        ToolRefused: when the tool cannot run with them.
        ValueError: when they are not flat JSON values within `MAX_FACTS_BYTES`, or name an unknown tier.
    """
    if declared.facts is None:
        return {}
    facts = {key: _plain(key, value) for key, value in declared.facts(**keyword_arguments(arguments)).items()}
    if "tier" in facts:
        facts["tier"] = str(Tier(facts["tier"]))
    if (size := len(canonical(facts))) > MAX_FACTS_BYTES:
        raise ValueError(f"facts of {size} bytes; at most {MAX_FACTS_BYTES}")
    return facts


def meaning_of(declared: Tool, arguments: BaseModel) -> str | None:
    """What makes this call the same as another. Raises ValueError where the tool's function gives no text."""
    if declared.semantic_key is None:
        return None
    means = declared.semantic_key(**keyword_arguments(arguments))
    if not isinstance(means, str) or not means:
        raise ValueError("a semantic key is a text that is not empty")
    return means


def keyword_arguments(arguments: BaseModel) -> dict[str, Any]:
    """The validated values as the function takes them; nested models stay models."""
    return {name: getattr(arguments, name) for name in type(arguments).model_fields}


def preview(given: Mapping[str, Any]) -> str:
    """The arguments on one line for a person who must decide, secrets hidden, at most `MAX_PREVIEW` characters."""
    line = ", ".join(f"{key}={_shown(str(key), value)}" for key, value in given.items())
    return line if len(line) <= MAX_PREVIEW else line[: MAX_PREVIEW - 1] + "…"


def _as_run(declared: Tool, arguments: BaseModel, given: Mapping[str, Any]) -> bytes:
    """Arguments with defaults filled in, unless writing them as JSON loses something; then as given."""
    dumped = arguments.model_dump(mode="json", by_alias=True)
    try:
        faithful = declared.arguments.model_validate(dumped) == arguments
    except ValidationError:
        faithful = False
    return canonical(dumped if faithful else dict(given))


def _explain(card: ToolCard, error: ValidationError) -> str:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"The arguments of `{card.name}` do not fit; nothing was run."]
    for detail in details[:MAX_PROBLEMS]:
        place = ".".join(str(part) for part in detail["loc"]) or "arguments"
        if detail["type"] == "missing":
            lines.append(f"- `{place}` is missing.")
        elif detail["type"] == "extra_forbidden":
            known = ", ".join(f"`{name}`" for name in card.input_schema.get("properties", {})) or "none"
            lines.append(f"- `{place}` is no argument of this tool; it takes: {known}.")
        else:
            lines.append(f"- `{place}`: {detail['msg']}.")
    if len(details) > MAX_PROBLEMS:
        lines.append(f"- and {len(details) - MAX_PROBLEMS} more.")
    return "\n".join(lines)


def _shown(key: str, value: Any) -> str:
    if _SECRET.search(key):
        return "‹hidden›"
    if isinstance(value, Mapping):
        text = "{" + ", ".join(f"{name}: {_shown(str(name), item)}" for name, item in value.items()) + "}"
    else:
        text = repr(value)
    return text if len(text) <= MAX_VALUE_PREVIEW else text[: MAX_VALUE_PREVIEW - 1] + "…"


def _plain(key: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return list(value)
    raise ValueError(
        f"fact `{key}` is a {type(value).__name__}; a fact is a string, number, boolean or list of strings"
    )


def _kind(value: Any) -> str:
    return {list: "an array", str: "a string", type(None): "null"}.get(type(value), f"a {type(value).__name__}")
