"""The `execute_call` activity: run one authorised call through the effect protocol.

Claim, dispatch, record. A settled call answers from its row, whoever asks; a refused one never runs; Temporal only
repeats the activity until some attempt has settled the row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx2
from temporalio import activity

from holdfast import ids
from holdfast.catalogue import Catalogue, ToolCard
from holdfast.config import EffectSettings
from holdfast.contracts import REPEAT, CallOutcome, ExecuteCall
from holdfast.errors import ToolRefused
from holdfast.facts import Fact, Kind
from holdfast.states import CallStatus, EffectState
from holdfast_activities.calls.report import CallReport, log_call
from holdfast_activities.calls.surroundings import Surroundings
from holdfast_activities.calls.undertaking import Undertaking, carried_out, looked_up
from holdfast_activities.faults import FaultPoints, no_faults
from holdfast_activities.halt import Halt, wound_up
from holdfast_activities.lease import beating
from holdfast_activities.redaction import Redactor
from holdfast_activities.resources import Resources
from holdfast_activities.retries import busy, later
from holdfast_activities.tools.book import ToolBook
from holdfast_ledger.records import Busy, Claim, Granted, Refused, Settled
from holdfast_ledger.store import Ledger

THREADS = 64
"""Sync tools at once per worker; a stuck one holds its thread until its timeout and grace are over."""
HELD_CODES = frozenset({"head_missing", "effect_missing", "conflict"})
"""Refusals of a claim after which going on would be a guess."""
CLOSED_CODES = frozenset({"saga_closed", "epoch"})
UNWINDING = "unwinding"
"""An attempt of it may have landed, and whoever undoes the request finds out."""
TOLD_CODES = HELD_CODES | CLOSED_CODES | {REPEAT, UNWINDING}
"""Refusals that deny nothing by themselves: what they mean is for the session to say, or was said before."""
UNSETTLED_DELAY = timedelta(seconds=30)


class CallExecutions:
    """Executes calls. Holds the worker's clients; nothing of a session stays here."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        book: ToolBook,
        resources: Resources,
        secrets: Mapping[str, str],
        redactor: Redactor | None = None,
        worker: str,
        observe: Callable[[CallReport], None] = log_call,
        effects: EffectSettings = EffectSettings(),  # noqa: B008 - frozen
        faults: FaultPoints = no_faults,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Args:
        secrets: what tools may read, by name: only what `[secrets] allow` lists.
        redactor: what is cut out of results; by default the `secrets`, and credentials of known kinds.
        worker: identity that stands in the ledger's intent entries.
        observe: called once per granted attempt, whatever became of it.
        transport: what tools' requests leave by; closed with this. Plain HTTP connections where none is given.
        """
        self._ledger = ledger
        self._book = book
        self._transport = transport or httpx2.AsyncHTTPTransport(retries=0)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="holdfast-tool")
        self._now = now
        self._around = Surroundings(
            ledger=ledger,
            book=book,
            resources=resources,
            read_secret=_reader(secrets),
            redactor=redactor or Redactor(secrets),
            transport=self._transport,
            threads=self._threads,
            observe=observe,
            faults=faults,
            now=now,
            worker=worker,
            lease=effects.lease,
            renewal=effects.renewal,
        )

    @property
    def surroundings(self) -> Surroundings:
        """What probes of calls share with them."""
        return self._around

    async def close(self) -> None:
        """Close connections. Threads that still run are left to end with the process."""
        await self._transport.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @activity.defn
    async def execute_call(self, request: ExecuteCall) -> CallOutcome:
        """See `holdfast.contracts.execute_call`.

        Raises:
            ApplicationError: retryable; a later attempt settles the call.
            asyncio.CancelledError: it was stopped before it had an effect, and released.
        """
        return await wound_up(lambda halt: self._attempt(request, halt))

    async def _attempt(self, request: ExecuteCall, halt: Halt) -> CallOutcome | None:
        async with beating():
            found = await looked_up(self._ledger, request.catalogue, request.tool)
            if isinstance(found, str):
                return CallOutcome(status=CallStatus.CANCELLED, held=found)
            if halt.reason is not None:
                return None
            return await self._claimed(request, *found, halt)

    async def _claimed(
        self, request: ExecuteCall, catalogue: Catalogue, card: ToolCard, halt: Halt
    ) -> CallOutcome | None:
        claim = self._claim(request, card)
        sent = time.monotonic()
        claimed = await self._ledger.claim(claim)
        if isinstance(claimed, Refused) and claimed.code not in TOLD_CODES:
            # Settle it as denied in the ledger too, so that nothing of its saga stays open.
            await self._ledger.append(request.session_id, (self._refusal(request, card, claim, claimed),))
            sent = time.monotonic()
            claimed = await self._ledger.claim(claim)
        if not isinstance(claimed, Granted):
            return self._without_grant(card, claimed)
        work = Undertaking(claim=claim, catalogue=catalogue, card=card, trace=request.trace)
        return await carried_out(self._around, work, claimed, sent, halt)

    def _claim(self, request: ExecuteCall, card: ToolCard) -> Claim:
        path = ids.call_path(request.turn, request.tool_use_id)
        authorization = request.authorization
        return Claim(
            effect_id=ids.effect_id(request.session_id, path, request.head),
            session_id=request.session_id,
            kind="call",
            turn=request.turn,
            call=request.call,
            tool=card.name,
            tier=request.tier or card.tier,
            service=card.service,
            recovery=card.recovery,
            key_ttl=card.key_ttl,
            fingerprint=request.digest,
            saga_id=request.saga.id,
            saga_epoch=request.saga.epoch,
            request=request.saga.request,
            attempts=request.attempts,
            lease=self._around.lease,
            worker=self._around.worker,
            authorization=authorization.model_dump(mode="json"),
            decision=authorization.decision,
            use_within=authorization.use_within,
            repeat_within=card.repeat_within,
            repeat_allowed=authorization.rule == REPEAT,
            outbox=request.outbox,
        )

    def _without_grant(self, card: ToolCard, claimed: Settled | Busy | Refused) -> CallOutcome:
        match claimed:
            case Settled():
                return settled(claimed)
            case Busy():
                raise busy("call", claimed.retry_after)
            case Refused() if claimed.code in HELD_CODES:
                return CallOutcome(status=CallStatus.CANCELLED, code=claimed.code, held=claimed.reason)
            case Refused() if claimed.code == UNWINDING:
                return CallOutcome(status=CallStatus.UNKNOWN, code="unknown", text=in_doubt(card, claimed))
            case Refused() if claimed.code in CLOSED_CODES:
                text = f"This call was not run: {claimed.reason}."
                return CallOutcome(status=CallStatus.CANCELLED, code=claimed.code, text=text)
            case Refused() if claimed.code == REPEAT:  # what that means is for policy to say
                return CallOutcome(status=CallStatus.DENIED, code=REPEAT, text=repeats(card, claimed))
            case Refused():
                raise later(claimed.reason, f"Refused.{claimed.code}", claimed.retry_after or UNSETTLED_DELAY)

    def _refusal(self, request: ExecuteCall, card: ToolCard, claim: Claim, refused: Refused) -> Fact:
        reason = ids.digest(refused.reason.encode())[:16]  # refused again for another reason is another fact
        return Fact(
            key=f"refused:{request.call}:{reason}",
            kind=Kind.CALL_DECIDED,
            at=self._now(),
            turn=request.turn,
            call=request.call,
            effect_id=claim.effect_id,
            tool=card.name,
            tier=claim.tier,
            outcome="denied",
            actor="ledger",
            body={
                "rule": f"claim:{refused.code}",
                "digest": request.digest,
                "reason": f"This call was not run: {refused.reason}.",
            },
        )


def settled(row: Settled) -> CallOutcome:
    """The outcome a row holds, in the form this activity returns; a person's resolution may have written it."""
    outcome = dict(row.outcome or {})
    outcome.setdefault("status", _STATUS[row.state])
    if row.state is EffectState.CANCELLED:
        outcome.setdefault("text", "This call was cancelled before it ran.")
    return CallOutcome.model_validate(outcome)


def in_doubt(card: ToolCard, refused: Refused) -> str:
    return f"The outcome of `{card.name}` is unknown: {refused.reason}. Do not call it again for the same purpose."


def repeats(card: ToolCard, refused: Refused) -> str:
    return f"This call of `{card.name}` was not run: {refused.reason}. Do not repeat it unless told to."


_STATUS: Mapping[EffectState, CallStatus] = {
    EffectState.DONE: CallStatus.OK,
    EffectState.FAILED: CallStatus.ERROR,
    EffectState.UNKNOWN: CallStatus.UNKNOWN,
    EffectState.CANCELLED: CallStatus.CANCELLED,
}


def _reader(secrets: Mapping[str, str]) -> Callable[[str], str]:
    def read(name: str) -> str:
        if name not in secrets:
            raise ToolRefused(f"the worker has no secret `{name}`; a person can add it to [secrets] allow")
        return secrets[name]

    return read
