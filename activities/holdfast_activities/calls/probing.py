"""Asking a service whether an effect in doubt happened. A probe that fails or hangs has said nothing."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from holdfast.catalogue import Catalogue, ToolCard
from holdfast.recovery import DidNotHappen, Inconclusive, Landed, Probe
from holdfast.tools import Tool, ToolContext
from holdfast_activities.calls import running
from holdfast_activities.calls.context import context_of
from holdfast_activities.calls.outgoing import Outgoing, client_for
from holdfast_activities.calls.surroundings import Surroundings
from holdfast_activities.halt import Halt
from holdfast_activities.tools.arguments import keyword_arguments

MAX_SAID = 300


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the probe answered, and the same as evidence for the ledger."""

    answer: Landed | DidNotHappen | Inconclusive
    evidence: Mapping[str, Any]

    @property
    def never(self) -> bool:
        """It did not happen and never will: sending is safe."""
        return isinstance(self.answer, DidNotHappen) and self.answer.final

    @property
    def said(self) -> str:
        """In one line, for people."""
        return ": ".join(str(value) for value in self.evidence.values())


@dataclass(frozen=True, kw_only=True)
class Question:
    """One call, as its probe needs it."""

    declared: Tool
    args: Mapping[str, Any]
    catalogue: Catalogue
    card: ToolCard
    key: str
    """The idempotency key it was sent with."""
    session_id: str


async def ask_about(question: Question, around: Surroundings, *, trace: dict[str, str]) -> Asked:
    """Ask once, over what calls work with. Raises `ValidationError` where the tool takes other arguments now."""
    leash = running.Leash()
    card = question.card
    client = client_for(Outgoing(around.transport), key=question.key, trace=trace, timeout=card.timeout)
    async with client:
        context = context_of(
            around,
            question.catalogue,
            card,
            key=question.key,
            session_id=question.session_id,
            client=client,
            leash=leash,
        )
        arguments = question.declared.arguments.model_validate(question.args)
        return await ask(question.declared, arguments, context, leash=leash, threads=around.threads)


async def ask(
    declared: Tool, arguments: BaseModel, context: ToolContext, *, leash: running.Leash, threads: ThreadPoolExecutor
) -> Asked:
    """Ask once, within the probe's own timeout. Never raises for what the probe does."""
    assert isinstance(declared.recovery, Probe)
    try:
        answer = await running.run(
            replace(declared, fn=declared.recovery.probe),
            {"ctx": context, **keyword_arguments(arguments)},
            timeout=min(declared.recovery.within, declared.timeout),
            writes=False,
            halt=Halt(),
            leash=leash,
            threads=threads,
        )
    except Exception as error:  # the author's code, and whatever the service does to it
        return Asked(answer=Inconclusive(type(error).__name__), evidence={"probe": type(error).__name__})
    match answer:
        case Landed():
            return Asked(answer=answer, evidence={"probe": "landed"})
        case DidNotHappen(final=True):
            return Asked(answer=answer, evidence={"probe": "did not happen, and never will"})
        case DidNotHappen():
            return Asked(answer=answer, evidence={"probe": "did not happen so far"})
        case Inconclusive(reason=reason):
            because = {"probe_reason": reason[:MAX_SAID]} if reason else {}
            return Asked(answer=answer, evidence={"probe": "cannot tell", **because})
        case _:
            said = f"answered a {type(answer).__name__}, not Landed, DidNotHappen or Inconclusive"
            return Asked(answer=Inconclusive(said), evidence={"probe": said})
