"""The `model_turn` activity: call the model once and record what came back in one transaction.

An answer that is recorded is never paid again: every later attempt returns the row. An answer that has come is not
thrown away: it is recorded although Postgres is away for a while, and an interrupt records what was said. Errors
that may pass are Temporal's to retry; all others end the turn with words for the user.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from temporalio import activity

from holdfast import ids
from holdfast.budget import Lost, Usage
from holdfast.config import EffectSettings
from holdfast.contracts import LEASE, ModelTurn, TurnResult
from holdfast.errors import EffectConflict, HeadMissing
from holdfast.pricing import PriceTable, cost_usd
from holdfast.states import EffectState, RecoveryClass
from holdfast_activities.attempt_report import AttemptReport
from holdfast_activities.faults import MODEL, FaultPoint, FaultPoints, no_faults
from holdfast_activities.halt import Halt, wound_up
from holdfast_activities.incoming import incoming_messages
from holdfast_activities.lease import beating
from holdfast_activities.messages_api.counting import TokenCounter
from holdfast_activities.messages_api.request import model_asked
from holdfast_activities.messages_api.steps import StepsTaken
from holdfast_activities.planned_calls import ToolBook
from holdfast_activities.retries import busy, later, spread
from holdfast_activities.turn_attempt import MAX_ATTEMPTS, ChunkSink, TurnAttempt
from holdfast_ledger.errors import LedgerError, LedgerUnavailable
from holdfast_ledger.records import Busy, Claim, Granted, Refused, Settled, model_service
from holdfast_ledger.store import Ledger

if TYPE_CHECKING:
    from holdfast_activities.messages_api.client import ModelClient

HELD_CODES = frozenset({"head_missing", "conflict", "left_behind"})
"""Refusals of a claim after which going on would be a guess."""
LATER_CODES = frozenset({"disabled", "breaker"})
"""Refusals that a person or time lifts."""


def log_attempt(report: AttemptReport) -> None:
    """Ids, names and sizes only: never what was said."""
    activity.logger.info("model turn: %s", report.outcome, extra=report.fields())


class ModelTurns:
    """Runs model turns. Holds the worker's clients; nothing of a session stays here."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        client: ModelClient,
        book: ToolBook,
        chunks: ChunkSink,
        worker: str,
        prices: PriceTable | None = None,
        observe: Callable[[AttemptReport], None] = log_attempt,
        effects: EffectSettings = EffectSettings(),  # noqa: B008 - frozen
        faults: FaultPoints = no_faults,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Args:
        worker: identity that stands in the ledger's intent entries.
        prices: the user's own prices, over the shipped table.
        observe: called once per attempt that was granted, whatever became of it.
        effects: how long a lease is, and how often it is renewed.
        """
        self._ledger = ledger
        self._client = client
        self._counter = TokenCounter(client)
        self._steps = StepsTaken()
        self._book = book
        self._chunks = chunks
        self._worker = worker
        self._prices = prices
        self._observe = observe
        self._effects = effects
        self._faults = faults
        self._now = now

    @activity.defn
    async def model_turn(self, request: ModelTurn) -> TurnResult:
        """See `holdfast.contracts.model_turn`.

        Raises:
            ApplicationError: retryable; the effect is OPEN again and the next attempt may follow.
            asyncio.CancelledError: released, since the worker or this attempt is to stop.
        """
        return await wound_up(lambda halt: self._attempt(request, halt))

    async def _attempt(self, request: ModelTurn, halt: Halt) -> TurnResult | None:
        """One attempt; None when it was released because the worker, or this attempt, is to stop."""
        async with beating():
            try:
                claim = self._claim(request, await self._service(request))
                claimed = await self._ledger.claim(claim)
                if not isinstance(claimed, Granted):
                    return await self._with_lost(request, claim, _without_grant(claimed))
                self._faults(FaultPoint.AFTER_CLAIM, MODEL)
                catalogue = await self._ledger.catalogue(request.catalogue)
                transcript = await self._ledger.transcript(request.session_id, request.head)
                lost = await self._ledger.lost_attempts(claim.effect_id) if claimed.token > 1 else 0
            except LedgerUnavailable:
                raise  # nothing is lost: the next attempt takes over
            except (HeadMissing, EffectConflict, LedgerError) as error:
                return TurnResult(held=str(error))  # not what this session stands on; never run on a guess
            attempt = TurnAttempt(
                request=request,
                effect_id=claim.effect_id,
                grant=claimed,
                catalogue=catalogue,
                transcript=transcript,
                lost=lost,
                ledger=self._ledger,
                client=self._client,
                counter=self._counter,
                steps=self._steps,
                book=self._book,
                chunks=self._chunks,
                prices=self._prices,
                observe=self._observe,
                effects=self._effects,
                faults=self._faults,
                now=self._now,
            )
            return await attempt.run(halt)

    async def _with_lost(self, request: ModelTurn, claim: Claim, result: TurnResult) -> TurnResult:
        """The result, and what is assumed of the attempts where the ledger gave the turn up by itself."""
        if result.failed is None or result.lost is not None:
            return result
        lost = await self._ledger.lost_attempts(claim.effect_id)
        if not lost:
            return result
        agent = (await self._ledger.catalogue(request.catalogue)).agent
        most = Usage(output=agent.max_tokens)
        usd = cost_usd(
            model_asked(agent, summary=request.summary), most, on=self._now().date(), overrides=self._prices
        )
        return result.model_copy(update={"lost": Lost.assumed(lost, most, usd)})

    async def _service(self, request: ModelTurn) -> str | None:
        """Which model is asked; None where the catalogue is missing, of which the claim says more."""
        try:
            catalogue = await self._ledger.catalogue(request.catalogue)
        except LedgerUnavailable:
            raise
        except LedgerError:
            return None
        return model_service(model_asked(catalogue.agent, summary=request.summary))

    def _claim(self, request: ModelTurn, service: str | None = None) -> Claim:
        path = ids.turn_path(request.turn)
        asked = [request.head, request.catalogue, request.final, *(["summary"] if request.summary else [])]
        fingerprint = ids.digest(ids.canonical(asked))
        return Claim(
            effect_id=ids.effect_id(request.session_id, path, request.head),
            session_id=request.session_id,
            kind="model",
            turn=request.turn,
            service=service,
            recovery=RecoveryClass.RETRY,
            fingerprint=fingerprint,
            saga_id=request.saga.id,
            saga_epoch=request.saga.epoch,
            request=request.saga.request,
            attempts=MAX_ATTEMPTS,
            lease=self._effects.lease,
            worker=self._worker,
            parent=request.parent,
            incoming=incoming_messages(request),
            outbox=request.outbox,
        )


def _without_grant(claimed: Settled | Busy | Refused) -> TurnResult:
    match claimed:
        case Settled(state=EffectState.DONE | EffectState.FAILED):
            return TurnResult.model_validate(claimed.outcome)
        case Settled():
            return TurnResult(failed=f"this turn was {claimed.state.lower()} before it could run")
        case Busy():
            raise busy("turn", claimed.retry_after)
        case Refused() if claimed.code in HELD_CODES:
            return TurnResult(held=claimed.reason)
        case Refused() if claimed.code in LATER_CODES:
            delay = spread(claimed.retry_after) if claimed.retry_after else LEASE
            raise later(claimed.reason, f"Refused.{claimed.code}", delay, ordinary=True)
        case Refused():
            return TurnResult(failed=claimed.reason)
