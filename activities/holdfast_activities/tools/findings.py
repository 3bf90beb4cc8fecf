"""What is wrong with a tool, or could be better: `holdfast tool check`."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

from pydantic.errors import PydanticUserError

from holdfast.errors import DeclarationError
from holdfast.recovery import Idempotent, Never, Operator
from holdfast.states import Tier
from holdfast.tools import Tool
from holdfast_activities.tools.book import ToolBook
from holdfast_activities.tools.builtin import BUILTIN

SHORT_DESCRIPTION = 40
LONG_SCHEMA_PROPERTIES = 15


@dataclass(frozen=True)
class Finding:
    """`error`: a worker would refuse it. `warning`: it works, and a model or a person will have trouble with it."""

    level: Literal["error", "warning"]
    text: str


def check(book: ToolBook, target: str) -> list[Finding]:
    """Load a tool by any of its names as a worker would, and say what is wrong with it; empty means nothing."""
    try:
        declared = book.tool(book.find(target))
        book.undo(declared)
    except DeclarationError as error:
        return [Finding("error", line) for line in str(error).splitlines()]
    return [*_result(declared), *_arguments(declared), *_risk(declared)]


def check_all(book: ToolBook) -> dict[str, list[Finding]]:
    """What is wrong with all that the configuration mentions, by name; an agent's own mistakes under its name.

    A built-in tool is not the configuration's to improve, so only what stops it is told.
    """
    found = {name: check(book, name) for name in book.configured()}
    for name in found.keys() & BUILTIN.keys():
        found[name] = [finding for finding in found[name] if finding.level == "error"]
    told = {finding.text for findings in found.values() for finding in findings}
    problems = [line for line in book.problems() if not any(line.endswith(text) for text in told)]
    for agent, _, text in (line.partition(": ") for line in problems):
        found.setdefault(agent, []).append(Finding("error", text))
    return found


def _result(declared: Tool) -> list[Finding]:
    if "return" not in get_type_hints(declared.fn):
        return [Finding("warning", "its result has no type; annotate it, so that a wrong result is noticed")]
    try:
        declared.result.json_schema(mode="serialization")
    except PydanticUserError as error:
        what = str(error).splitlines()[0].rstrip(".")
        return [Finding("error", f"its result type has no JSON form: {what}")]
    return []


def _arguments(declared: Tool) -> list[Finding]:
    properties: dict[str, Any] = declared.input_schema.get("properties", {})
    found = [
        Finding(
            "warning", f"argument `{name}` is described neither in the docstring nor by a `Field(description=)`"
        )
        for name, schema in properties.items()
        if not _described(schema) and name not in declared.description
    ]
    if len(declared.description) < SHORT_DESCRIPTION:
        found.append(
            Finding("warning", "its description is short; say when to use it, when not, and give an example")
        )
    if len(properties) > LONG_SCHEMA_PROPERTIES:
        found.append(Finding("warning", f"it takes {len(properties)} arguments; a model fills fewer more reliably"))
    return found


def _described(schema: dict[str, Any]) -> bool:
    return (
        "description" in schema
        or "$ref" in schema
        or any("description" in each for each in schema.get("anyOf", ()))
    )


def _risk(declared: Tool) -> list[Finding]:
    found = []
    writes = declared.tier is not Tier.READ
    if writes and isinstance(declared.recovery, Operator):
        found.append(
            Finding(
                "warning",
                "a lost attempt needs a person, since its class is Operator; "
                "where the service takes an idempotency key, declare it Idempotent",
            )
        )
    if isinstance(declared.recovery, Idempotent) and not _uses_key(declared):
        found.append(
            Finding("warning", "it is Idempotent, and uses neither `http` nor `idempotency_key` of its context")
        )
    if declared.tier is Tier.IRREVERSIBLE and not isinstance(declared.undo, Never) and declared.undo is None:
        found.append(Finding("warning", 'it is irreversible; say why with `undo=Never("...")`'))
    return found


def _uses_key(declared: Tool) -> bool:
    """Whether the context, or a part of it that carries the key, is used or handed on."""
    try:
        source = inspect.getsource(declared.fn)
    except (OSError, TypeError):
        return True  # cannot tell
    name = declared.context_parameter or ""
    body = source.partition(":\n")[2]
    return f"{name}.http" in body or f"{name}.idempotency_key" in body or f"({name}" in body
