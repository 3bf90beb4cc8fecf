"""`@saga`: declaring a saga, and refusing one that could strand an effect.

The tools of each role are named where the saga is declared, so that what it may do is known, checked and stored
before its first step: a body that asks for another tool, or for one in another role, is stopped as mistaken.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import BaseModel
from pydantic.errors import PydanticUserError

from holdfast.errors import DeclarationError
from holdfast.recovery import Never
from holdfast.states import Tier
from holdfast.tools import Tool
from holdfast_sagas.source import source_digest
from holdfast_sagas.steps import Role, ToolName, tool_name

NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")
VERSION = re.compile(r"\d+(\.\d+)*")

Body = Callable[..., Coroutine[Any, Any, BaseModel]]
Tools = ToolName | tuple[ToolName, ...]


@dataclass(frozen=True, kw_only=True)
class SagaDefinition:
    """A declared saga. `source` is the digest of its body: a version's body may not change under open runs."""

    name: str
    version: str
    body: Body
    input: type[BaseModel]
    output: type[BaseModel]
    steps: tuple[ToolName, ...]
    pivots: tuple[ToolName, ...] = ()
    deferred: tuple[ToolName, ...] = ()
    source: str = ""

    @property
    def description(self) -> str:
        return inspect.getdoc(self.body) or ""

    @property
    def references(self) -> tuple[str, ...]:
        """Every tool as the worker's tool book finds it, each once."""
        return tuple(dict.fromkeys(map(_reference, (*self.steps, *self.pivots, *self.deferred))))

    def tools_as(self, role: Role) -> tuple[ToolName, ...]:
        return {Role.STEP: self.steps, Role.PIVOT: self.pivots, Role.DEFERRED: self.deferred}[role]

    def allows(self, tool: ToolName, role: Role) -> bool:
        return any(each is tool or (isinstance(tool, str) and each == tool) for each in self.tools_as(role))

    def tool(self, name: str) -> ToolName | None:
        return next((each for each in (*self.steps, *self.pivots, *self.deferred) if tool_name(each) == name), None)

    def checked(self, find: Callable[[str], Tool]) -> None:
        """Check the roles of tools given by name, which only a worker can find.

        Raises:
            DeclarationError: from `find` for one that is not there, or as `saga` does.
        """
        for role in Role:
            for tool in self.tools_as(role):
                if isinstance(tool, str):
                    _refuse(self.name, _unfit(find(tool), role))


def saga(
    name: str, version: str, *, steps: Tools, pivot: Tools = (), deferred: Tools = ()
) -> Callable[[Body], SagaDefinition]:
    """Declare `async def body(s: Saga, input: Model) -> Model` as a saga.

    Args:
        version: digits and dots; raise it whenever the body changes, and keep the old one while runs are open.
        steps: tools that can be undone, and reads.
        pivot: tools of the one step after which the saga is only tried further.
        deferred: tools that cannot be undone and run once the saga has committed.

    Raises:
        DeclarationError: when it could strand an effect or cannot run, with what to change.
    """

    def declare(body: Body) -> SagaDefinition:
        roles = {Role.STEP: _tuple(steps), Role.PIVOT: _tuple(pivot), Role.DEFERRED: _tuple(deferred)}
        _refuse(name, _problems(name, version, body, roles))
        given, returned = _types(name, body)
        try:
            source = source_digest(body)
        except DeclarationError as error:
            raise DeclarationError(f"saga `{name}`: {error}") from error
        return SagaDefinition(
            name=name,
            version=version,
            body=body,
            input=given,
            output=returned,
            steps=roles[Role.STEP],
            pivots=roles[Role.PIVOT],
            deferred=roles[Role.DEFERRED],
            source=source,
        )

    return declare


def _refuse(name: str, problems: Iterator[str]) -> None:
    for problem in problems:
        raise DeclarationError(f"saga `{name}`: {problem}")


def _tuple(tools: Tools) -> tuple[ToolName, ...]:
    return tuple(tools) if isinstance(tools, tuple | list) else (tools,)


def _problems(name: str, version: str, body: Body, roles: dict[Role, tuple[ToolName, ...]]) -> Iterator[str]:
    if not NAME.fullmatch(name) or len(name) > 64:
        yield 'a name is lower-case words joined by dots, e.g. "travel.rebook", at most 64 characters'
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        yield f'version `{version}` is none; write digits and dots in quotes, e.g. "1" or "2.1"'
    if not inspect.iscoroutinefunction(body):
        yield "its body is no coroutine; write `async def`"
    if not (roles[Role.STEP] or roles[Role.PIVOT]):
        yield "it has no steps; name the tools it uses in `steps=(...)`"
    seen: dict[str, ToolName] = {}
    for role, tools in roles.items():
        for tool in tools:
            if not isinstance(tool, Tool | str):
                yield f"`{getattr(tool, '__name__', tool)}` is no declared tool; decorate it with `@tool`"
                continue
            if seen.setdefault(tool_name(tool), tool) is not tool and not isinstance(tool, str):
                yield f"it has two tools named `{tool.name}`"
            if isinstance(tool, Tool):
                yield from _unfit(tool, role)


def _unfit(tool: Tool, role: Role) -> Iterator[str]:
    """Why this tool cannot have this role."""
    if tool.handled == "workflow":
        yield f"`{tool.name}` belongs to a session; a saga's steps run as activities"
    if tool.tier is Tier.PRIVILEGED:
        yield f"`{tool.name}` is privileged; it is denied until signed approvals exist"
    if "<locals>" in tool.fn.__qualname__:
        yield f"`{tool.name}` is made inside a function and cannot be found again; declare it at a module's top"
    try:
        _ = tool.input_schema, tool.result
    except PydanticUserError as error:
        yield f"`{tool.name}` has no schema: {str(error).splitlines()[0]}"
    if role is not Role.STEP:
        if tool.tier is Tier.READ:
            yield f"`{tool.name}` is a read and no {role}; name it in `steps`"
        return
    if tool.tier is Tier.READ or tool.undo_name:
        return
    if isinstance(tool.undo, Never):
        yield (
            f"`{tool.name}` cannot be undone ({tool.undo.reason}); name it in `pivot`, or in `deferred` "
            "to run once the saga has committed"
        )
    yield (
        f"`{tool.name}` has effects and no undo; give it `undo=`, or name it in `pivot`, or in `deferred` "
        "to run once the saga has committed"
    )


def _types(name: str, body: Body) -> tuple[type[BaseModel], type[BaseModel]]:
    parameters = list(inspect.signature(body).parameters)
    if len(parameters) != 2:
        raise DeclarationError(f"saga `{name}`: its body takes two parameters, `s: Saga` and its input")
    try:
        hints = get_type_hints(body)
    except NameError as error:
        raise DeclarationError(
            f"saga `{name}`: {error}; its types are read at run time, so import them outside `if TYPE_CHECKING`"
        ) from error
    return _model(name, "input", hints.get(parameters[1])), _model(name, "output", hints.get("return"))


def _model(name: str, what: str, kind: Any) -> type[BaseModel]:
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        raise DeclarationError(f"saga `{name}`: its {what} is no pydantic model; annotate one")
    try:
        kind.model_json_schema()
    except PydanticUserError as error:
        raise DeclarationError(f"saga `{name}`: its {what} has no schema: {str(error).splitlines()[0]}") from error
    return kind


def _reference(tool: ToolName) -> str:
    return tool if isinstance(tool, str) else f"{tool.fn.__module__}:{tool.fn.__qualname__}"
