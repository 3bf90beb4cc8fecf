"""One call in a session of its own, planned in the ledger as a model's turn would plan it, with no model."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from holdfast import ids
from holdfast.budget import Usage
from holdfast.catalogue import AgentSpec, Catalogue, ToolCard
from holdfast.contracts import Authorization, ExecuteCall, SagaRef
from holdfast.messages import Principal
from holdfast.states import CallStatus, EffectState, RecoveryClass
from holdfast_activities.tools.arguments import CheckedCall
from holdfast_activities.tools.book import catalogue_body
from holdfast_ledger.errors import LedgerConflict
from holdfast_ledger.records import Claim, Closing, Granted, Incoming, Opening, PlannedCall, Resolution, TurnRecord
from holdfast_ledger.store import Ledger

AGENT = "tool-check"
NOBODY = "no model"
TOOL_USE = "toolu_check"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """`request` is what a worker is told to execute."""

    request: ExecuteCall
    effect_id: str


async def planned(
    ledger: Ledger,
    *,
    card: ToolCard,
    compensations: Sequence[ToolCard],
    checked: CheckedCall,
    by: str,
) -> Trial:
    """Open a session and plan the call in its first turn.

    Its card has no breaker, and the call no semantic key: a check must neither stop a tool for others nor be
    stopped by a run before it.
    """
    card = card.model_copy(update={"breaker": None, "repeat_within": None})
    session_id = f"check-{card.name}-{secrets.token_hex(6)}"
    principal = Principal(requested_by=by)
    agent = AgentSpec(name=AGENT, model=NOBODY, tools=(card.source,))
    catalogue = Catalogue(agent=agent, principal=principal, tools=(card,), compensations=tuple(compensations))
    digest, body = catalogue_body(catalogue)
    await ledger.open_session(
        Opening(
            session_id=session_id,
            first_run_id=f"{session_id}/no-workflow",
            agent=AGENT,
            model=NOBODY,
            catalogue_digest=digest,
            catalogue=body,
            requested_by=by,
            on_behalf_of=None,
            tenant=None,
            roles=(),
            labels={"purpose": "tool check"},
            started_at=datetime.now(UTC),
        )
    )
    message = _message(session_id, f"Check what `{card.name}` does when its worker is lost.")
    saga = SagaRef(id=ids.saga_id(session_id, 1, message.head))
    salt = secrets.token_bytes(16)
    call = PlannedCall(
        effect_id=ids.effect_id(session_id, ids.call_path(1, TOOL_USE), message.head),
        call="1.1",
        tool_use_id=TOOL_USE,
        tool=card.name,
        tool_version=card.version,
        tier=checked.tier,
        recovery=checked.recovery,
        args=checked.args,
        salt=salt,
        digest=ids.salted_digest(salt, checked.args),
        preview=checked.preview,
    )
    await _take_turn(ledger, session_id, message, saga, call)
    request = ExecuteCall(
        session_id=session_id,
        turn=1,
        head=message.head,
        call=call.call,
        tool_use_id=TOOL_USE,
        tool=card.name,
        digest=call.digest,
        catalogue=digest,
        saga=saga,
        tier=checked.tier,
        authorization=Authorization(verdict="allow", rule="tool check", approver=by),
        attempts=card.attempts,
    )
    return Trial(request=request, effect_id=call.effect_id)


async def settle(ledger: Ledger, trial: Trial, *, happened: bool, by: str) -> None:
    """Resolve an effect in doubt by the user's own count, so that it waits for nobody."""
    await ledger.resolve(
        Resolution(
            id=secrets.token_hex(8),
            effect_id=trial.effect_id,
            session_id=trial.request.session_id,
            state=EffectState.DONE if happened else EffectState.FAILED,
            by=by,
            reason="counted at its service by `holdfast tool check --crash`",
            outcome={"status": CallStatus.OK if happened else CallStatus.ERROR, "text": "counted by a tool check"},
        )
    )


async def end(ledger: Ledger, trial: Trial) -> None:
    """The session is over. What is in doubt stays so, until a person says."""
    await ledger.close_session(
        Closing(
            session_id=trial.request.session_id,
            status="completed",
            reason="a tool check",
            at=datetime.now(UTC),
            saga_id=trial.request.saga.id,
        )
    )


def _message(session_id: str, text: str) -> Incoming:
    body = ids.canonical(text)
    parent, digest = ids.first_head(session_id), ids.digest(body)
    head = ids.next_head(parent, digest)
    return Incoming(head=head, parent=parent, role="user", digest=digest, turn=1, body=body)


async def _take_turn(ledger: Ledger, session_id: str, message: Incoming, saga: SagaRef, call: PlannedCall) -> None:
    claim = Claim(
        effect_id=ids.effect_id(session_id, ids.turn_path(1), message.head),
        session_id=session_id,
        kind="model",
        turn=1,
        recovery=RecoveryClass.RETRY,
        fingerprint=message.head,
        saga_id=saga.id,
        saga_epoch=saga.epoch,
        request=saga.request,
        attempts=0,
        lease=timedelta(seconds=15),
        worker=AGENT,
        parent=message.parent,
        incoming=(message,),
    )
    granted = await ledger.claim(claim)
    if not isinstance(granted, Granted):
        raise LedgerConflict(f"The ledger did not grant the turn of a new session: {granted}.")
    body = ids.canonical([{"type": "tool_use", "id": TOOL_USE, "name": call.tool, "input": {}}])
    await ledger.record_turn(
        TurnRecord(
            effect_id=claim.effect_id,
            session_id=session_id,
            token=granted.token,
            turn=1,
            head=message.head,
            next_head=ids.next_head(message.head, ids.digest(body)),
            digest=ids.digest(body),
            body=body,
            outcome={"stop_reason": "tool_use"},
            stop_reason="tool_use",
            model_asked=NOBODY,
            model_answered=None,
            usage=Usage(),
            usd=Decimal(0),
            latency=timedelta(0),
            request_digest=ids.digest(body),
            calls=(call,),
            saga_id=saga.id,
            saga_epoch=saga.epoch,
        )
    )
