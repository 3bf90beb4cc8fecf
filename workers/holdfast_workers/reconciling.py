"""Holding the effects in Postgres against other witnesses: Temporal's history, and each tool's probe.

A difference is named, never repaired. What Temporal keeps nothing of any more is expired and not compared. Asking a
probe sends nothing, and what it says is not recorded: `holdfast effect resolve` is for that.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError
from temporalio.client import Client

from holdfast import ids
from holdfast.contracts import REOPENED, CallOutcome, TurnResult
from holdfast.errors import DeclarationError
from holdfast.recovery import DidNotHappen, Landed, Probe
from holdfast.saga_contracts import StepOutcome, unwind_id
from holdfast.states import CallStatus, EffectState
from holdfast_activities.calls import probing
from holdfast_activities.calls.probing import Asked
from holdfast_activities.calls.surroundings import Surroundings
from holdfast_ledger.reading import Reader
from holdfast_ledger.views import Effect
from holdfast_workers.histories import Activity, History, read_history

What = Literal["no_effect", "not_settled", "other_outcome", "no_activity", "probe_differs", "probe_knows"]
SETTLED = (CallStatus.OK, CallStatus.ERROR, CallStatus.UNKNOWN)
"""Statuses of an activity whose effect must have ended in Postgres before it answered."""
Ask = Callable[[Effect], Awaitable[Asked | None]]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that two witnesses tell differently.

    `what`: `no_effect` (Temporal has an outcome, Postgres no such effect), `not_settled` (Postgres says it never
    ended), `other_outcome`, `no_activity` (attempted, and no activity was scheduled for it), `probe_differs` (its
    service says otherwise), `probe_knows` (it is in doubt, and its service can tell).
    """

    session_id: str
    what: What
    effect_id: str
    kind: str
    turn: int | None
    call: str | None
    tool: str | None
    said: str


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """One session. `expired`: effects that Temporal keeps nothing of; `unsure`: that a probe could not tell of."""

    session_id: str
    compared: int
    expired: int
    probed: int
    unsure: int
    differences: tuple[Difference, ...]


async def reconcile(client: Client, reader: Reader, session_id: str, *, ask: Ask | None = None) -> Reconciled:
    """Compare one session. Raises `RPCError` where Temporal cannot be asked, `LedgerUnavailable`.

    Effects are read before history and again after it: an activity is scheduled before its effect is claimed, and
    completes after its effect is settled.
    """
    before = await reader.effects(session_id=session_id)
    history = await _histories(client, session_id, before)
    after = {effect.effect_id: effect for effect in await reader.effects(session_id=session_id)}
    answers = {turn.effect_id: turn.digest for turn in await reader.turns(session_id)}
    resolved = {e.effect_id for e in await reader.timeline(session_id) if e.kind == "effect_resolved"}
    steps = {effect.call: effect for effect in after.values() if effect.kind == "call"}

    attempted = [effect for effect in before if effect.token > 0]
    scheduled = {id for activity in history.activities if (id := _effect_id(activity, steps))}
    alone = [effect for effect in attempted if effect.effect_id not in scheduled]
    differences = [_no_activity(effect) for effect in alone] if history.whole else []
    last = {_effect_id(each, steps) or "": each for each in history.activities if each.result is not None}
    for effect_id, activity in last.items():
        recorded = after.get(effect_id)
        said = _contradiction(activity, recorded, answers.get(effect_id), known_better=effect_id in resolved)
        if said:
            differences.append(_difference(session_id, effect_id, activity, recorded, *said))

    told = [] if ask is None else [(effect, await ask(effect)) for effect in _askable(after)]
    asked = [(effect, answer) for effect, answer in told if answer is not None]
    judged = [(effect, answer, _probed(effect, answer)) for effect, answer in asked]
    differences += [_of_effect(effect, what, answer.said) for effect, answer, what in judged if what]
    return Reconciled(
        session_id=session_id,
        compared=len(attempted) - (0 if history.whole else len(alone)),
        expired=0 if history.whole else len(alone),
        probed=len(asked),
        unsure=sum(not isinstance(answer.answer, Landed | DidNotHappen) for _, answer in asked),
        differences=tuple(differences),
    )


async def _histories(client: Client, session_id: str, effects: Iterable[Effect]) -> History:
    """The session's own history, and those of the unwinds of its sagas."""
    undone = {effect.saga_id for effect in effects if effect.kind == "undo"}
    found = [await read_history(client, each) for each in (session_id, *sorted(map(unwind_id, undone)))]
    return History(
        retained=any(each.retained for each in found),
        whole=all(each.whole for each in found),
        activities=tuple(activity for each in found for activity in each.activities),
    )


def _effect_id(activity: Activity, steps: Mapping[str | None, Effect]) -> str | None:
    if activity.step is None:
        return activity.effect_id
    step = steps.get(activity.step)
    return step.effect_id if step else f"step {activity.step}"


def _contradiction(
    activity: Activity, effect: Effect | None, answer: str | None, *, known_better: bool
) -> tuple[What, str] | None:
    """How what Temporal was told differs from what stands in Postgres.

    `known_better`: a person or a probe settled it later, so that Postgres may well say more.
    """
    told = activity.result
    where = f"`{activity.activity_id}`"
    match told:
        case TurnResult(message=message):
            if not message or message == answer:
                return None
            if effect is None:
                return "no_effect", f"Temporal has an answer of {where}, and Postgres no such turn"
            return "other_outcome", f"Temporal has another answer of {where} than Postgres"
        case CallOutcome(held=held, code=code) | StepOutcome(held=held, code=code):
            if held is not None or code == REOPENED or told.status not in SETTLED:
                return None
    if effect is None:
        return "no_effect", f"Temporal has the outcome {told.status} of {where}, and Postgres no such effect"
    if known_better or told.status is CallStatus.UNKNOWN:
        return None
    if effect.state in (EffectState.OPEN, EffectState.CLAIMED):
        return "not_settled", f"Temporal has the outcome {told.status} of {where}, and in Postgres it has not ended"
    if (told.status is CallStatus.OK) != (effect.state is EffectState.DONE):
        return "other_outcome", f"Temporal has the outcome {told.status} of {where}, and Postgres {effect.state}"
    digest = (effect.outcome or {}).get("digest", "")
    if isinstance(told, CallOutcome) and effect.outcome and digest != told.digest:
        return "other_outcome", f"Temporal has another result of {where} than Postgres"
    return None


def _no_activity(effect: Effect) -> Difference:
    said = f"Postgres has {effect.token} attempts of it ({effect.state}), and Temporal scheduled none"
    return _of_effect(effect, "no_activity", said)


def _of_effect(effect: Effect, what: What, said: str) -> Difference:
    return Difference(
        session_id=effect.session_id,
        what=what,
        effect_id=effect.effect_id,
        kind=effect.kind,
        turn=effect.turn,
        call=effect.call,
        tool=effect.tool,
        said=said,
    )


def _difference(
    session_id: str, effect_id: str, activity: Activity, effect: Effect | None, what: What, said: str
) -> Difference:
    if effect is not None:
        return _of_effect(effect, what, said)
    given = activity.input
    return Difference(
        session_id=session_id,
        what=what,
        effect_id=effect_id,
        kind="model" if isinstance(activity.result, TurnResult) else "call",
        turn=getattr(given, "turn", None),
        call=getattr(given, "call", activity.step),
        tool=getattr(given, "tool", None),
        said=said,
    )


def _askable(effects: Mapping[str, Effect]) -> list[Effect]:
    """Calls that ended and still stand: what was undone its service may rightly not know any more."""
    ended = (EffectState.DONE, EffectState.FAILED, EffectState.UNKNOWN)
    undone = {effect.effect_id.partition(":")[0] for effect in effects.values() if effect.kind == "undo"}
    return [
        each
        for each in effects.values()
        if each.kind == "call" and each.state in ended and each.token > 0 and each.effect_id not in undone
    ]


def _probed(effect: Effect, asked: Asked) -> What | None:
    match asked.answer, effect.state:
        case (Landed(), EffectState.FAILED) | (DidNotHappen(), EffectState.DONE):
            return "probe_differs"
        case (Landed(), EffectState.UNKNOWN):
            return "probe_knows"
        case (DidNotHappen(final=True), EffectState.UNKNOWN):
            return "probe_knows"
    return None


def prober(around: Surroundings) -> Ask:
    """Asks a call's probe as a worker would; None where its tool has none, or this machine does not know it."""

    async def ask(effect: Effect) -> Asked | None:
        session = await around.ledger.reader.session(effect.session_id)
        doubt = await around.ledger.doubt(effect.effect_id)
        if doubt is None or doubt.args is None or session.catalogue_digest is None:
            return None
        catalogue = await around.ledger.catalogue(session.catalogue_digest)
        card = catalogue.card(effect.tool or "")
        if card is None:
            return None
        try:
            declared = around.book.tool(card)
            if not isinstance(declared.recovery, Probe):
                return None
            about = probing.Question(
                declared=declared,
                args=json.loads(doubt.args),
                catalogue=catalogue,
                card=card,
                key=ids.idempotency_key(effect.effect_id, doubt.keys_refused),
                session_id=effect.session_id,
            )
            return await probing.ask_about(about, around, trace={})
        except (DeclarationError, ValidationError):
            return None

    return ask
