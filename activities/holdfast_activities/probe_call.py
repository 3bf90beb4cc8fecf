"""The `probe_call` activity: ask about a call whose outcome is UNKNOWN until its service, or a person, tells.

It sends nothing. What a probe finds out settles the effect as a person's word would; "did not happen, and never
will" opens it again, and the workflow runs the call under its own claim.
"""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from temporalio import activity

from holdfast import ids
from holdfast.catalogue import Catalogue, ToolCard
from holdfast.contracts import REOPENED, CallOutcome, ExecuteCall
from holdfast.errors import DeclarationError
from holdfast.recovery import Landed, Probe
from holdfast.states import CallStatus, EffectState
from holdfast.tools import Tool
from holdfast_activities.calls import found, probing
from holdfast_activities.calls.probing import Asked
from holdfast_activities.calls.surroundings import Surroundings
from holdfast_activities.calls.undertaking import looked_up
from holdfast_activities.execute_call import settled
from holdfast_activities.halt import Halt, wound_up
from holdfast_activities.lease import beating
from holdfast_activities.retries import later
from holdfast_ledger.records import Doubt, Resolution, Settled

FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(hours=1)
BY = "probe"
"""Who settled it, in the ledger."""


def growing(ask: int) -> timedelta:
    """The pause after this ask, counted from 1: doubling, bounded, with jitter."""
    return min(FIRST_PAUSE * float(2 ** min(ask - 1, 20)), LONGEST_PAUSE) * random.uniform(0.5, 1.0)


class Probings:
    """Asks probes, over what calls work with."""

    def __init__(self, around: Surroundings, *, pause: Callable[[int], timedelta] = growing) -> None:
        self._around = around
        self._pause = pause

    @activity.defn
    async def probe_call(self, request: ExecuteCall) -> CallOutcome:
        """See `holdfast.contracts.probe_call`.

        Raises:
            ApplicationError: retryable; nobody can tell yet.
        """
        return await wound_up(lambda halt: self._ask(request, halt))

    async def _ask(self, request: ExecuteCall, halt: Halt) -> CallOutcome | None:
        async with beating():
            path = ids.call_path(request.turn, request.tool_use_id)
            effect_id = ids.effect_id(request.session_id, path, request.head)
            doubt = await self._around.ledger.doubt(effect_id)
            if doubt is None:
                return CallOutcome(status=CallStatus.CANCELLED, held=f"Postgres has no effect {effect_id}")
            if doubt.state is not EffectState.UNKNOWN:
                return as_it_stands(doubt)
            found = await looked_up(self._around.ledger, request.catalogue, request.tool)
            if isinstance(found, str):
                return CallOutcome(status=CallStatus.CANCELLED, held=found)
            if halt.reason is not None:
                return None
            return await self._settle(request, effect_id, doubt, *found)

    async def _settle(
        self, request: ExecuteCall, effect_id: str, doubt: Doubt, catalogue: Catalogue, card: ToolCard
    ) -> CallOutcome:
        args: dict[str, Any] = json.loads(doubt.args or b"{}")
        pause = self._pause(activity.info().attempt)
        try:
            declared = self._around.book.tool(card)
            if not isinstance(declared.recovery, Probe):
                raise DeclarationError(f"`{card.name}` has no probe any more")
            key = ids.idempotency_key(effect_id, doubt.keys_refused)
            asked = await self._asked(request, key, declared, args, catalogue, card)
        except (DeclarationError, ValidationError) as error:  # a deploy may be under way
            state = await self._around.ledger.note_probe(
                request.session_id, effect_id, f"this worker cannot ask: {type(error).__name__}"
            )
        else:
            if isinstance(asked.answer, Landed) or asked.never:
                return await self._resolve(request, effect_id, declared, catalogue, card, args, asked)
            said = self._around.redactor.text(asked.said)
            state = await self._around.ledger.note_probe(request.session_id, effect_id, said)
        if state is EffectState.UNKNOWN:
            raise later(
                f"`{card.name}` cannot tell yet whether it happened", "Probe.cannot_tell", pause, ordinary=True
            )
        raise later("somebody settled it meanwhile", "Probe.settled", timedelta(milliseconds=100), ordinary=True)

    async def _asked(
        self,
        request: ExecuteCall,
        key: str,
        declared: Tool,
        args: dict[str, Any],
        catalogue: Catalogue,
        card: ToolCard,
    ) -> Asked:
        about = probing.Question(
            declared=declared, args=args, catalogue=catalogue, card=card, key=key, session_id=request.session_id
        )
        return await probing.ask_about(about, self._around, trace=dict(request.trace))

    async def _resolve(
        self,
        request: ExecuteCall,
        effect_id: str,
        declared: Tool,
        catalogue: Catalogue,
        card: ToolCard,
        args: dict[str, Any],
        asked: Asked,
    ) -> CallOutcome:
        landed = (
            found.landed(
                declared,
                catalogue,
                card,
                call=request.call,
                args=args,
                value=asked.answer.result,
                redactor=self._around.redactor,
            )
            if isinstance(asked.answer, Landed)
            else None
        )
        outcome = (
            CallOutcome(status=CallStatus.OK, digest=landed.digest, size=len(landed.result))
            if landed
            else CallOutcome(status=CallStatus.UNKNOWN, code=REOPENED)
        )
        recorded = await self._around.ledger.resolve(
            Resolution(
                id=secrets.token_hex(8),
                effect_id=effect_id,
                session_id=request.session_id,
                state=EffectState.DONE if landed else EffectState.OPEN,
                by=BY,
                reason=self._around.redactor.text(asked.said),
                outcome=outcome.model_dump(mode="json"),
                result=landed.result if landed else None,
                shown=landed.shown if landed else None,
                undo=landed.undo if landed else None,
                evidence=self._around.redactor.evidence({**asked.evidence, **(landed.evidence if landed else {})}),
                key_refused=asked.never,
            )
        )
        if recorded.accepted:
            return outcome
        raise later("somebody settled it meanwhile", "Probe.settled", timedelta(milliseconds=100), ordinary=True)


def as_it_stands(doubt: Doubt) -> CallOutcome:
    """What became of an effect that is not UNKNOWN any more."""
    if doubt.state in (EffectState.OPEN, EffectState.CLAIMED):
        return CallOutcome(status=CallStatus.UNKNOWN, code=REOPENED)
    return settled(Settled(state=doubt.state, outcome=doubt.outcome))
