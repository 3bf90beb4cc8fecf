"""Code-defined sagas as tools: an agent that lists `saga:NAME` may start that saga, and hears how it ended.

The workflow carries the call out, by a `SagaRun` of its own: what has committed there is not the request's to undo.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pydantic import BaseModel

from holdfast.catalogue import SAGA_SOURCE
from holdfast.config import Config
from holdfast.errors import DeclarationError
from holdfast.recovery import Operator
from holdfast.states import Tier
from holdfast.tools import DEFAULT_ATTEMPTS, DEFAULT_RESULT_CAP, DEFAULT_TIMEOUT, Tool
from holdfast_activities.tools.sources import load
from holdfast_sagas import Registry, SagaDefinition
from holdfast_sagas.shipped import SHIPPED

AS_A_WHOLE = "It happens as a whole or not at all; once it is done, `abort_request` does not undo it."


@dataclass(frozen=True, kw_only=True)
class SagaTool(Tool):
    """A saga as the model is offered it: its input's fields are the arguments."""

    saga: SagaDefinition

    @cached_property
    def arguments(self) -> type[BaseModel]:
        return self.saga.input


def sagas_of(config: Config) -> Registry:
    """The sagas that ship, and those the configuration names. Raises DeclarationError for what is no saga."""
    return Registry((*SHIPPED, *map(load_saga, config.sagas)))


def saga_tool(saga: SagaDefinition) -> SagaTool:
    """The saga as a tool: what it cannot take back, beyond its pivot or deferred, asks a person first."""
    return SagaTool(
        saga=saga,
        name=saga.name.replace(".", "_"),
        version=saga.version,
        fn=saga.body,
        description=f"{saga.description}\n\n{AS_A_WHOLE}".strip(),
        tier=Tier.IRREVERSIBLE if saga.pivots or saga.deferred else Tier.REVERSIBLE,
        recovery=Operator(),
        timeout=DEFAULT_TIMEOUT,
        attempts=DEFAULT_ATTEMPTS,
        result_cap=DEFAULT_RESULT_CAP,
        handled="workflow",
    )


def saga_named(registry: Registry, name: str, version: str | None = None) -> SagaDefinition:
    """Args:
    name: with the `saga:` before it.

    Raises:
        DeclarationError: naming the sagas there are.
    """
    return registry.find(name.removeprefix(SAGA_SOURCE), version)


def load_saga(reference: str) -> SagaDefinition:
    """The saga that `module:name` names. Raises DeclarationError."""
    loaded = load(reference)
    if not isinstance(loaded, SagaDefinition):
        raise DeclarationError(f"`{reference}` is a {type(loaded).__name__} and no saga; decorate it with `@saga`")
    return loaded
