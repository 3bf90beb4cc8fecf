"""Which tools a request offers, and what its `tool_choice` makes of a scripted turn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Offer:
    """The tools and the choice of one request."""

    schemas: Mapping[str, Mapping[str, Any]]
    """Input schema per tool; empty for the API's own server tools."""
    kind: str
    named: str | None
    one_at_a_time: bool

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Offer:
        choice = body.get("tool_choice") or {"type": "auto"}
        return cls(
            schemas={
                tool["name"]: tool.get("input_schema") or {} for tool in body.get("tools") or [] if "name" in tool
            },
            kind=choice["type"],
            named=choice.get("name"),
            one_at_a_time=bool(choice.get("disable_parallel_tool_use")),
        )

    def allows(self, tool: str) -> bool:
        """Whether a call of `tool` may be made; if not, the turn ends in plain text."""
        return self.kind != "none" and tool in self.schemas

    def chooses(self, tool: str) -> bool:
        """Whether a scripted call of `tool` is made: a named choice leaves the others out."""
        return self.kind != "tool" or tool == self.named

    def forced(self, scripted: Iterable[str]) -> str | None:
        """The tool that must be called although the script does not call it; None if nothing is forced."""
        tools = list(scripted)
        if self.kind == "tool" and self.named not in tools:
            return self.named
        if self.kind == "any" and not any(tool in self.schemas for tool in tools):
            return next(iter(self.schemas), None)
        return None


def sample_input(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The smallest input that a tool's JSON schema asks for: its required properties alone."""
    value = _sample(schema, schema.get("$defs", {}))
    return value if isinstance(value, dict) else {}


def _sample(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    if reference := schema.get("$ref"):
        return _sample(definitions.get(str(reference).rsplit("/", 1)[-1], {}), definitions)
    for fixed in ("const", "default"):
        if fixed in schema:
            return schema[fixed]
    for several in ("enum", "examples"):
        if schema.get(several):
            return schema[several][0]
    for branch in ("anyOf", "oneOf", "allOf"):
        if schema.get(branch):
            return _sample(schema[branch][0], definitions)
    return _sample_of_type(schema, definitions)


def _sample_of_type(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    match schema.get("type", "object"):
        case "object":
            properties = schema.get("properties", {})
            return {name: _sample(properties.get(name, {}), definitions) for name in schema.get("required", ())}
        case "array":
            return [_sample(schema.get("items", {}), definitions) for _ in range(schema.get("minItems", 0))]
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
        case "boolean":
            return False
        case "null":
            return None
        case _:
            return "scripted".ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]
