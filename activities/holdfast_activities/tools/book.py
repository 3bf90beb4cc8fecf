"""The tool book: every tool a worker can run, found by the name an agent gives it.

A name is a built-in one, a `[tools.NAME]` table, or `module:attribute` of a declared `@tool`. What an agent may
use is frozen into a catalogue when its session opens; afterwards the book only finds the code of a card again.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from holdfast.catalogue import SAGA_SOURCE, AgentSpec, Catalogue, ToolCard
from holdfast.config import Config
from holdfast.errors import DeclarationError
from holdfast.ids import canonical, digest
from holdfast.messages import Principal
from holdfast.recovery import Idempotent, Never
from holdfast.states import RecoveryClass, Tier
from holdfast.tools import Tool
from holdfast_activities.tools import entries
from holdfast_activities.tools.builtin import ABORT_REQUEST, BUILTIN, READ_RESULT
from holdfast_activities.tools.saga_tools import saga_named, saga_tool, sagas_of
from holdfast_activities.tools.sources import load, make_importable, reference_of
from holdfast_sagas import Registry

MANY_TOOLS = 20
_log = logging.getLogger("holdfast.tools")


@dataclass(frozen=True, kw_only=True)
class ToolSet:
    """An agent's tools: what the model is offered, their undos, and remarks for whoever configured it."""

    tools: tuple[ToolCard, ...]
    compensations: tuple[ToolCard, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Found:
    tool: Tool
    source: str


@dataclass
class ToolBook:
    """Finds tools by name and by card. Code is loaded once, at first use."""

    config: Config
    directory: Path
    """Where the configuration lies; its modules can be imported."""
    _by_name: dict[str, _Found] = field(default_factory=dict, init=False, repr=False)
    _by_card: dict[tuple[str, str], Tool] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        make_importable(self.directory)

    @cached_property
    def _sagas(self) -> Registry:
        return sagas_of(self.config)

    def agent(self, name: str) -> AgentSpec:
        """Raises DeclarationError, naming the agents there are."""
        if (spec := self.config.agents.get(name)) is not None:
            return spec
        raise DeclarationError(
            f"there is no agent `{name}`{_did_you_mean(name, self.config.agents)}; "
            f"known agents: {', '.join(sorted(self.config.agents))}"
        )

    def catalogue(self, agent: str, principal: Principal | None = None) -> Catalogue:
        """Everything a session of this agent is opened with.

        Raises:
            DeclarationError: for an unknown agent, or with every tool that cannot be resolved.
        """
        spec = self.agent(agent)
        resolved = self.resolve(spec)
        for warning in resolved.warnings:
            _log.warning(warning, extra={"agent": agent})
        return Catalogue(
            agent=spec,
            principal=principal or Principal(),
            tools=resolved.tools,
            compensations=resolved.compensations,
        )

    def resolve(self, spec: AgentSpec) -> ToolSet:
        """Find all tools of an agent. Raises DeclarationError with one line per tool that cannot be found."""
        found: dict[str, _Found] = {}
        problems: list[str] = []
        for name in spec.tools:
            try:
                _add(found, self._find(name))
            except DeclarationError as error:
                problems.append(str(error))
        undos = self._undos(found, problems)
        if problems:
            raise DeclarationError("\n".join(f"agent `{spec.name}`: {problem}" for problem in problems))
        if spec.tools and READ_RESULT not in found:
            _add(found, self._find(READ_RESULT))  # what was cut from a long result stays within reach
        if spec.policy.on_abort != "keep" and any(each.tool.tier is not Tier.READ for each in found.values()):
            _add(found, self._find(ABORT_REQUEST))  # what changes something can be given up
        return ToolSet(
            tools=tuple(card_of(each.tool, each.source) for each in found.values()),
            compensations=tuple(card_of(each.tool, each.source) for each in undos.values()),
            warnings=_warnings(spec),
        )

    def find(self, name: str) -> ToolCard:
        """One tool by any of its names, as a card. Raises DeclarationError."""
        found = self._find(name)
        return card_of(found.tool, found.source)

    def undo(self, forward: Tool) -> ToolCard | None:
        """The tool that undoes another. Raises DeclarationError where one is named and cannot be found."""
        found = self._named(forward.undo)
        return card_of(found.tool, found.source) if found else None

    def problems(self) -> list[str]:
        """What is wrong with the tools of the configured agents, one line each; empty when all can start."""
        problems: list[str] = []
        seen: dict[str, _Found] = {}
        for spec in self.config.agents.values():
            try:
                for card in self.resolve(spec).tools:
                    _add(seen, _Found(self.tool(card), card.source))
            except DeclarationError as error:
                problems.extend(str(error).splitlines())
        return problems

    def names(self) -> list[str]:
        """Every name that needs no module reference: built-in tools and `[tools.NAME]` tables."""
        return sorted({*BUILTIN, *self.config.tools})

    def configured(self) -> list[str]:
        """Every name that the configuration mentions: `[tools.NAME]` tables and the tools of its agents."""
        return sorted({*self.config.tools, *(name for spec in self.config.agents.values() for name in spec.tools)})

    def tool(self, card: ToolCard) -> Tool:
        """The code of a card of some session's catalogue, with the settings that session was opened with.

        Raises:
            DeclarationError: when this worker no longer has it.
        """
        key = (card.name, card.source)
        if key not in self._by_card:
            self._by_card[key] = self._load_card(card)
        return self._by_card[key]

    def _load_card(self, card: ToolCard) -> Tool:
        kind, _, name = card.source.partition(":")
        if kind == "builtin":
            return self._find(name).tool
        if card.saga:
            return saga_tool(saga_named(self._sagas, card.source, card.version))
        entry = self.config.tools.get(card.name)
        if entry is not None and entry.run == card.source:
            return entries.declare(card.name, entry)
        loaded = load(card.source)
        if not isinstance(loaded, Tool):
            raise DeclarationError(f"`{card.source}` is no declared tool, and [tools.{card.name}] is gone")
        return loaded

    def _find(self, name: str) -> _Found:
        if name not in self._by_name:
            self._by_name[name] = self._look_up(name)
        return self._by_name[name]

    def _look_up(self, name: str) -> _Found:
        if (entry := self.config.tools.get(name)) is not None:
            if name in BUILTIN:
                raise DeclarationError(f"[tools.{name}] has the name of a built-in tool; choose another")
            return _Found(entries.declare(name, entry), entry.run)
        if name in BUILTIN:
            return _Found(BUILTIN[name], f"builtin:{name}")
        if name.startswith(SAGA_SOURCE):
            return _Found(saga_tool(saga_named(self._sagas, name)), name)
        if ":" not in name:
            raise DeclarationError(f"there is no tool `{name}`{_did_you_mean(name, self.names())}")
        found = load(name)
        if not isinstance(found, Tool):
            raise DeclarationError(
                f"`{name}` is a plain {type(found).__name__}; decorate it with `@tool`, or name it in a "
                f'[tools.NAME] table with `run = "{name}"`'
            )
        return _Found(found, name)

    def _undos(self, found: Mapping[str, _Found], problems: list[str]) -> dict[str, _Found]:
        """The compensations of these tools, by name: all of them must exist before a session starts."""
        undos: dict[str, _Found] = {}
        for each in found.values():
            for named in (each.tool.undo, each.tool.undo_if_unknown):
                try:
                    if (undo := self._named(named)) is not None:
                        _add(undos, undo)
                except DeclarationError as error:
                    problems.append(f"the undo of `{each.tool.name}`: {error}")
        return undos

    def _named(self, undo: Tool | str | Never | None) -> _Found | None:
        if isinstance(undo, str):
            return self._find(undo)
        if not isinstance(undo, Tool):
            return None
        if BUILTIN.get(undo.name) is undo:
            return self._find(undo.name)
        return _Found(undo, reference_of(undo))


def card_of(declared: Tool, source: str) -> ToolCard:
    """The tool as the catalogue keeps it."""
    recovery = declared.recovery
    return ToolCard(
        name=declared.name,
        version=declared.version,
        source=source,
        description=declared.description,
        input_schema=declared.input_schema,
        tier=declared.tier,
        recovery=RecoveryClass(recovery.kind),
        key_ttl=recovery.ttl if isinstance(recovery, Idempotent) else None,
        timeout=declared.timeout,
        attempts=declared.attempts,
        result_cap=declared.result_cap,
        handled=declared.handled,
        required=declared.required,
        fallback=declared.fallback,
        undo=_bare(declared.undo_name),
        undo_if_unknown=_bare(declared.undo_if_unknown_name),
        never_undone=declared.undo.reason if isinstance(declared.undo, Never) else None,
        owner=declared.owner,
        runbook=declared.runbook,
        service=declared.service,
        cost_usd=declared.cost_usd,
        repeat_within=declared.semantic_window if declared.semantic_key else None,
        repeat_scope=declared.semantic_scope,
        breaker=declared.breaker,
        inline=declared.inline,
    )


def _bare(name: str | None) -> str | None:
    """The tool's own name, of a reference too."""
    return name.partition(":")[2] if name and ":" in name else name


def catalogue_body(catalogue: Catalogue) -> tuple[str, bytes]:
    """A catalogue's digest, which is its name, and its canonical bytes."""
    body = canonical(catalogue.model_dump(mode="json"))
    return digest(body), body


def _add(found: dict[str, _Found], new: _Found) -> None:
    name = new.tool.name
    old = found.get(name)
    if old is not None and old.source != new.source:
        raise DeclarationError(f"two tools are named `{name}`: {old.source} and {new.source}; rename one")
    found[name] = new


def _warnings(spec: AgentSpec) -> tuple[str, ...]:
    if len(spec.tools) <= MANY_TOOLS:
        return ()
    return (
        f"agent `{spec.name}` has {len(spec.tools)} tools; beyond {MANY_TOOLS} a model chooses worse. "
        "Split it into agents with fewer",
    )


def _did_you_mean(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean `{close[0]}`?" if close else ""
