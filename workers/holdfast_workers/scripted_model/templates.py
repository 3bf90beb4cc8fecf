"""Templates in scenarios: jinja2, sandboxed, strict about what is not there.

A text that is one `{{ expression }}` keeps the expression's type (a number stays a number); any other text
renders to text. What a template may use is listed in `playback.context`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

_SINGLE = re.compile(r"^\s*\{\{((?:(?!\{\{|\}\}).)*)\}\}\s*$", re.DOTALL)

Context = Mapping[str, Any]


class RenderError(Exception):
    """A template could not be rendered."""


def plus_days(day: str, days: int) -> str:
    """`"2026-03-31" | plus_days(1)` is `"2026-04-01"`."""
    return (date.fromisoformat(day[:10]) + timedelta(days=days)).isoformat()


def money(cents: int) -> str:
    """`1250 | money` is `"12.50"`."""
    return f"{cents / 100:.2f}"


def plain(value: Any) -> str:
    """A result for reading: text as it is, a list of texts as lines, anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    return json.dumps(value, indent=2, ensure_ascii=False)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    environment.filters |= {"plus_days": plus_days, "money": money, "plain": plain}
    return environment


_ENVIRONMENT = _environment()


@lru_cache(maxsize=4096)
def _template(source: str) -> Callable[[Context], Any]:
    if single := _SINGLE.match(source):
        return _expression(single[1].strip())
    return _ENVIRONMENT.from_string(source).render


@lru_cache(maxsize=4096)
def _expression(source: str) -> Callable[[Context], Any]:
    expression = _ENVIRONMENT.compile_expression(source, undefined_to_none=False)

    def evaluate(context: Context) -> Any:
        value = expression(context)
        if isinstance(value, StrictUndefined):
            value._fail_with_undefined_error()
        return value

    return evaluate


def render(value: Any, context: Context) -> Any:
    """`value` with every text in it rendered; dicts and lists are rendered item by item.

    Raises:
        RenderError: when a template uses what is not there, or fails.
    """
    if isinstance(value, str):
        return _run(_template, value, context) if "{{" in value or "{%" in value else value
    if isinstance(value, dict):
        return {key: render(item, context) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [render(item, context) for item in value]
    return value


def evaluate(expression: str, context: Context) -> Any:
    """The value of a bare expression, as in `when`.

    Raises:
        RenderError: when it uses what is not there, or fails.
    """
    return _run(_expression, expression, context)


def _run(compiled: Callable[[str], Callable[[Context], Any]], source: str, context: Context) -> Any:
    try:
        return compiled(source)(context)
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise RenderError(f"`{source}`: {error}") from error


def check_expression(source: str) -> str:
    """Raises ValueError when `source` is no expression."""
    try:
        _ENVIRONMENT.parse("{{ " + source + " }}")
    except TemplateSyntaxError as error:
        raise ValueError(f"`{source}` is no expression: {error}") from error
    return source


def check_templates(value: Any) -> None:
    """Raises ValueError when a text in `value` is no template."""
    for text in _texts(value):
        try:
            _ENVIRONMENT.parse(text)
        except TemplateSyntaxError as error:
            raise ValueError(f"`{text}` is no template: {error}") from error


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if "{{" in value or "{%" in value:
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
