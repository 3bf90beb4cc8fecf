"""Declaring a tool: one typed function, its risk, and what may be done when an attempt is lost.

The schema comes from the types, the description from the docstring. A declaration that could do harm later
(a write that ignores its idempotency key, a reversible tool without its undo) is refused here, at import.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, TypeAdapter, create_model
from pydantic.errors import PydanticUserError

from holdfast.durations import duration
from holdfast.errors import DeclarationError
from holdfast.guards import DEFAULT_WINDOW, Breaker, RepeatScope
from holdfast.recovery import MAX_PROBE_TIMEOUT, Idempotent, Never, Operator, Probe, Recovery, Retry, Transactional
from holdfast.states import Tier

if TYPE_CHECKING:
    import httpx2

Handler = Literal["activity", "workflow"]
"""Who carries out a call: `execute_call`, or the workflow itself (`ask_human`, `wait_until`) with no activity."""

NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")  # what the Messages API accepts
MAX_FACTS_BYTES = 512
DEFAULT_TIMEOUT = timedelta(seconds=30)
DEFAULT_ATTEMPTS = 5
DEFAULT_RESULT_CAP = 20_000
MAX_INLINE_TIMEOUT = timedelta(seconds=1)
"""A slower call inside the workflow task would stall its session: no message reaches it meanwhile."""

Fn = TypeVar("Fn", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class ToolContext:
    """What a tool may know of the call it serves; a parameter of this type is hidden from the schema."""

    idempotency_key: str
    session_id: str
    requested_by: str
    on_behalf_of: str | None = None
    tenant: str | None = None
    roles: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    deadline: datetime
    dry_run: bool = False
    undo_key: str | None = None
    """For a tool that undoes another's effect: the key that effect was sent with."""
    http: httpx2.AsyncClient
    """Sends the idempotency key and the trace context, and never retries by itself."""
    transaction: Any = None
    """An asyncpg connection inside the recording transaction, for class `Transactional` only."""
    read_secret: Callable[[str], str] = field(repr=False)
    beat: Callable[[], None] = field(repr=False)
    resources: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What the worker lends to built-in tools by name (workspace, settings)."""

    def secret(self, name: str) -> str:
        """A secret of the worker by name; it never enters history, logs or the ledger.

        Raises:
            ToolRefused: when the worker has no secret of this name.
        """
        return self.read_secret(name)

    def heartbeat(self) -> None:
        """Renew the lease early, from a long loop of a sync tool."""
        self.beat()


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One declared tool. Still callable as the function it wraps."""

    name: str
    version: str
    fn: Callable[..., Any]
    description: str
    tier: Tier
    recovery: Recovery
    timeout: timedelta
    attempts: int
    result_cap: int
    undo: Tool | str | Never | None = None
    undo_args: Callable[[dict[str, Any], Any], dict[str, Any]] | None = None
    """Arguments of the undo from (arguments, result), both as JSON values."""
    undo_if_unknown: Tool | str | None = None
    """Undoes it if it happened, where nobody knows whether it did: finds it by `ToolContext.undo_key`, and takes of
    the arguments what it needs. That there is nothing to undo is success."""
    facts: Callable[..., Mapping[str, Any]] | None = None
    """What policy may know of these arguments, `facts(**arguments)`: pure, flat, at most `MAX_FACTS_BYTES`.
    `tier` in it overrides the declared one; raising `ToolRefused` tells the model why such a call cannot run."""
    semantic_key: Callable[..., str] | None = None
    """`semantic_key(**arguments)`, pure: two calls with the same one mean the same, e.g. "invoice 7, 63.00". The
    second within `semantic_window` is refused, or asked about, by policy."""
    semantic_window: timedelta = DEFAULT_WINDOW
    semantic_scope: RepeatScope = "tenant"
    breaker: Breaker | None = None
    required: bool = True
    fallback: str | None = None
    """What the model is told in place of the failure of a tool that is not required."""
    owner: str | None = None
    runbook: str | None = None
    service: str | None = None
    cost_usd: float | None = None
    handled: Handler = "activity"
    inline: bool = False
    """A quick read that runs inside the workflow task where all calls of its turn may: one event, not six."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)

    @cached_property
    def context_parameter(self) -> str | None:
        """Name of the parameter that takes the `ToolContext`, if any."""
        hints = _hints(self.fn)
        return next((name for name, hint in hints.items() if hint is ToolContext and name != "return"), None)

    @cached_property
    def arguments(self) -> type[BaseModel]:
        """Pydantic model of the arguments, unknown ones forbidden."""
        return _arguments_model(self.name, self.fn, self.context_parameter)

    @cached_property
    def result(self) -> TypeAdapter[Any]:
        """Checks and serialises what the tool returns. Raises `PydanticUserError` for a type without a schema."""
        return TypeAdapter(_hints(self.fn).get("return", Any))

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        schema = self.arguments.model_json_schema()
        schema.pop("title", None)
        for prop in schema.get("properties", {}).values():
            prop.pop("title", None)
        return schema

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.fn)

    @property
    def undo_name(self) -> str | None:
        """Name of the compensating tool, if it can be undone."""
        return _named(self.undo)

    @property
    def undo_if_unknown_name(self) -> str | None:
        return _named(self.undo_if_unknown)


def _named(other: Tool | str | Never | None) -> str | None:
    if isinstance(other, Tool):
        return other.name
    return other if isinstance(other, str) else None


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(fn, include_extras=True)
    except NameError as error:
        raise DeclarationError(
            f"tool `{getattr(fn, '__name__', fn)}`: {error}; types of a tool are read at run time, "
            "so import them outside `if TYPE_CHECKING`"
        ) from error


def _arguments_model(name: str, fn: Callable[..., Any], context: str | None) -> type[BaseModel]:
    hints = _hints(fn)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(fn).parameters.values():
        if parameter.name == context:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise DeclarationError(
                f"tool `{name}`: parameter `{parameter}` has no place in a schema; give it a name"
            )
        if parameter.name not in hints:
            raise DeclarationError(f"tool `{name}`: parameter `{parameter.name}` has no type; annotate it")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    return create_model(f"{name}_arguments", __config__=ConfigDict(extra="forbid", frozen=True), **fields)


@overload
def tool(fn: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    version: str = "1",
    tier: Tier | str = Tier.READ,
    recovery: Recovery | None = None,
    timeout: timedelta | str = DEFAULT_TIMEOUT,
    attempts: int = DEFAULT_ATTEMPTS,
    result_cap: int = DEFAULT_RESULT_CAP,
    undo: Tool | str | Never | None = None,
    undo_args: Callable[[dict[str, Any], Any], dict[str, Any]] | None = None,
    undo_if_unknown: Tool | str | None = None,
    facts: Callable[..., Mapping[str, Any]] | None = None,
    semantic_key: Callable[..., str] | None = None,
    semantic_window: timedelta | str = DEFAULT_WINDOW,
    semantic_scope: RepeatScope = "tenant",
    breaker: Breaker | None = None,
    required: bool = True,
    fallback: str | None = None,
    owner: str | None = None,
    runbook: str | None = None,
    service: str | None = None,
    cost_usd: float | None = None,
    handled: Handler = "activity",
    inline: bool = False,
    description: str | None = None,
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(fn: Callable[..., Any] | None = None, /, **options: Any) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Declare a tool: `@tool` for a plain read, `@tool(tier=..., recovery=...)` for the rest.

    Raises:
        DeclarationError: when the declaration could strand or repeat an effect, with what to change.
    """
    if fn is not None:
        return _declare(fn, **options)
    return lambda decorated: _declare(decorated, **options)


def _declare(
    fn: Callable[..., Any],
    *,
    name: str | None = None,
    version: str = "1",
    tier: Tier | str = Tier.READ,
    recovery: Recovery | None = None,
    timeout: timedelta | str = DEFAULT_TIMEOUT,
    semantic_window: timedelta | str = DEFAULT_WINDOW,
    description: str | None = None,
    **rest: Any,
) -> Tool:
    name = name or fn.__name__
    try:
        tier = Tier(tier)
    except ValueError as error:
        raise DeclarationError(f"tool `{name}`: tier `{tier}` is none of {', '.join(Tier)}") from error
    rest.setdefault("attempts", DEFAULT_ATTEMPTS)
    rest.setdefault("result_cap", DEFAULT_RESULT_CAP)
    declared = Tool(
        name=name,
        version=version,
        fn=fn,
        description=description or inspect.getdoc(fn) or "",
        tier=tier,
        recovery=recovery or (Retry() if tier is Tier.READ else Operator()),
        timeout=duration(timeout),
        semantic_window=duration(semantic_window),
        **rest,
    )
    _check(declared)
    return declared


def redeclare(declared: Tool, **changes: Any) -> Tool:
    """The same tool with other settings, checked again. Raises DeclarationError as `tool` does."""
    changed = replace(declared, **changes)
    _check(changed)
    return changed


def _check(declared: Tool) -> None:
    def refuse(reason: str) -> None:
        raise DeclarationError(f"tool `{declared.name}`: {reason}")

    if not NAME.match(declared.name):
        refuse("a name is 1 to 64 letters, digits, `_` or `-`")
    if not declared.description.strip():
        refuse("it has no docstring; say to the model when to use it, when not, and the format of each argument")
    if declared.attempts < 1:
        refuse("attempts must be at least 1")
    if declared.timeout <= timedelta(0):
        refuse("timeout must be above zero")
    try:
        _ = declared.input_schema  # an argument without a JSON schema is found here, not in a session
    except PydanticUserError as error:
        refuse(f"an argument has no JSON schema: {str(error).splitlines()[0]}")
    writes = declared.tier is not Tier.READ
    if writes and isinstance(declared.recovery, Retry):
        refuse(
            "class Retry is for reads; a write is Idempotent, Probe, Operator or Transactional "
            "(the design calls repeating it anyway `at_least_once`)"
        )
    needs_context = isinstance(declared.recovery, Idempotent | Transactional)
    if writes and needs_context and declared.context_parameter is None:
        refuse(
            "its class needs a `ToolContext` parameter: send `ctx.idempotency_key` to the service, "
            "or write through `ctx.transaction`"
        )
    if isinstance(declared.recovery, Transactional) and not declared.is_async:
        refuse("a Transactional tool is `async def`: it shares the recording transaction's connection")
    if declared.tier is Tier.REVERSIBLE and declared.undo_name is None:
        refuse(
            "it is `reversible` but names no undo; give `undo=`, or declare it `irreversible` "
            "with `undo=Never(reason)`"
        )
    for reason in _unguarded(declared):
        refuse(reason)


def _unguarded(declared: Tool) -> Iterator[str]:
    """What is wrong with its probe, its semantic key, its undo, or its running inline."""
    if declared.inline and not (declared.tier is Tier.READ and isinstance(declared.recovery, Retry)):
        yield "only a read of class Retry may be `inline`: a lost attempt of it is simply sent again"
    if declared.inline and declared.timeout > MAX_INLINE_TIMEOUT:
        yield (
            f"an `inline` tool has a timeout of at most {MAX_INLINE_TIMEOUT.total_seconds():g} s, and this one "
            f"{declared.timeout.total_seconds():g} s: its session stands still meanwhile"
        )
    if declared.inline and declared.handled != "activity":
        yield "what the workflow handles by itself cannot be `inline`"
    if isinstance(declared.recovery, Probe) and not timedelta(0) < declared.recovery.within <= MAX_PROBE_TIMEOUT:
        yield f"its probe's timeout must be above zero and at most {MAX_PROBE_TIMEOUT.total_seconds():g} s"
    if declared.semantic_key is not None and declared.tier is Tier.READ:
        yield "a read may be repeated, so it has no semantic key"
    if isinstance(declared.undo, Never) and declared.tier is Tier.READ:
        yield "a read has nothing to undo"
    unknown = declared.undo_if_unknown
    if unknown is not None and declared.tier is Tier.READ:
        yield "a read has nothing to undo, known or not"
    if isinstance(unknown, Tool) and unknown.context_parameter is None:
        yield (
            f"its undo_if_unknown `{unknown.name}` needs a `ToolContext` parameter: "
            "what may have happened is found by `ctx.undo_key`"
        )
    if declared.semantic_window <= timedelta(0):
        yield "semantic_window must be above zero"
