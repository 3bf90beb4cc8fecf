"""What a session may use, resolved once and stored by digest: agent, tools and policy.

The workflow keeps only `ToolPlan`s, the few facts it decides with; activities load the whole by digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from holdfast.budget import Limits
from holdfast.guards import Breaker, RepeatScope
from holdfast.memory import Memory
from holdfast.messages import Principal
from holdfast.policy import POLICY_VERSION, Policy
from holdfast.states import RecoveryClass, Tier
from holdfast.tools import Handler
from holdfast.wire import Declared, Wire

SAGA_SOURCE = "saga:"
"""Before the name of a code-defined saga that an agent has as a tool."""
DEFAULT_MODEL = "claude-sonnet-5"


class ToolChoice(Declared):
    """`auto`, `any`, `none`, or one named tool."""

    type: Literal["auto", "any", "none", "tool"] = "auto"
    name: str | None = None


class AgentSpec(Declared):
    """`[agents.NAME]` of holdfast.toml."""

    name: str = "default"
    model: str = DEFAULT_MODEL
    system: str = "You are a careful assistant. Use tools when they help, and say what you did."
    max_tokens: int = Field(default=4096, ge=1)
    temperature: float | None = None
    thinking_budget: int | None = Field(default=None, ge=1024)
    tool_choice: ToolChoice = ToolChoice()
    tools: tuple[str, ...] = ()
    """Built-in names, `[tools.NAME]` names, `module:attribute` of a declared `@tool`, or `saga:NAME`."""
    server_tools: tuple[Mapping[str, Any], ...] = ()
    """The API's own server tools, passed through as they are (`type`, `name`, ...)."""
    betas: tuple[str, ...] = ()
    cache: bool = True
    """Set prompt-cache breakpoints."""
    on_refusal: Literal["stop", "fail"] = "stop"
    on_max_tokens: Literal["continue", "stop"] = "continue"
    limits: Limits = Limits()
    policy: Policy = Policy()
    memory: Memory = Memory()


class ToolCard(Wire):
    """One tool as the catalogue keeps it: everything but the code."""

    name: str
    version: str
    source: str = ""
    """Where the worker finds the code: `builtin:NAME`, `module:attribute` or `saga:NAME`."""
    description: str
    input_schema: Mapping[str, Any]
    tier: Tier
    recovery: RecoveryClass
    key_ttl: timedelta | None = None
    timeout: timedelta
    attempts: int
    result_cap: int
    handled: Handler = "activity"
    required: bool = True
    fallback: str | None = None
    undo: str | None = None
    undo_if_unknown: str | None = None
    never_undone: str | None = None
    owner: str | None = None
    runbook: str | None = None
    service: str | None = None
    cost_usd: float | None = None
    repeat_within: timedelta | None = None
    """For a tool with a semantic key: how long a call that stands forbids the same again, among `repeat_scope`."""
    repeat_scope: RepeatScope = "tenant"
    breaker: Breaker | None = None
    inline: bool = False

    @property
    def plan(self) -> ToolPlan:
        return ToolPlan(
            name=self.name,
            tier=self.tier,
            recovery=self.recovery,
            timeout=self.timeout,
            attempts=self.attempts,
            undo=self.undo,
            handled=self.handled,
            inline=self.inline,
            saga=SagaName(name=self.saga, version=self.version) if self.saga else None,
        )

    @property
    def saga(self) -> str | None:
        """Name of the saga it is, if it is one."""
        return self.source.removeprefix(SAGA_SOURCE) if self.source.startswith(SAGA_SOURCE) else None


class SagaName(Wire):
    name: str
    version: str


class ToolPlan(Wire):
    """What the workflow knows of a tool."""

    name: str
    tier: Tier
    recovery: RecoveryClass
    timeout: timedelta
    attempts: int
    undo: str | None = None
    handled: Handler = "activity"
    inline: bool = False
    saga: SagaName | None = None
    """The code-defined saga that a call starts."""


class Catalogue(Wire):
    """Everything a session was opened with. Immutable; its digest is its name."""

    agent: AgentSpec
    principal: Principal = Principal()
    tools: tuple[ToolCard, ...] = ()
    """What the model is offered."""
    compensations: tuple[ToolCard, ...] = ()
    """The undos of `tools`: never offered to the model, run by an unwind."""
    policy_version: int = POLICY_VERSION

    def card(self, name: str) -> ToolCard | None:
        return next((card for card in self.tools if card.name == name), None)

    def compensation(self, name: str | None) -> ToolCard | None:
        """The undo that a tool names, by its own name or by `module:attribute`."""
        return next((card for card in self.compensations if name and name in (card.name, card.source)), None)
