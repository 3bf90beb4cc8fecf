"""One granted attempt of a model turn: stream, then end in exactly one record.

Every path through `run` either records the turn, records its failure, or releases the claim. What was streamed is
decided on before anything else is asked for: a whole answer wins over an interrupt that came too late.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from temporalio import activity

from holdfast import ids
from holdfast.budget import Lost, Usage
from holdfast.catalogue import Catalogue
from holdfast.config import EffectSettings
from holdfast.contracts import ModelTurn, TurnResult
from holdfast.pricing import PriceTable, cost_usd, server_tools_usd
from holdfast.states import EffectState
from holdfast_activities.attempt_report import AttemptOutcome, AttemptReport
from holdfast_activities.faults import MODEL, FaultPoint, FaultPoints
from holdfast_activities.halt import Halt
from holdfast_activities.lease import renewing
from holdfast_activities.messages_api.answer import Answer, Piece
from holdfast_activities.messages_api.counting import TokenCounter
from holdfast_activities.messages_api.failures import Failure, classify, too_long
from holdfast_activities.messages_api.keeping import head_of, kept_blocks, said_blocks
from holdfast_activities.messages_api.reader import read_answer
from holdfast_activities.messages_api.request import ModelRequest, build_request, model_asked
from holdfast_activities.messages_api.steps import StepsTaken
from holdfast_activities.planned_calls import Plan, ToolBook, plan_calls
from holdfast_activities.recording import until_recorded
from holdfast_activities.retries import backoff, later, spread, superseded
from holdfast_ledger.errors import LedgerUnavailable
from holdfast_ledger.records import Chunk, Granted, Record, Recorded, StoredMessage, TurnRecord, model_service
from holdfast_ledger.store import Ledger

if TYPE_CHECKING:
    from holdfast_activities.messages_api.client import ModelClient

MAX_ATTEMPTS = 10
"""Attempt budget of a turn, counted by the ledger; then an error that might pass ends it like one that does not."""
MAX_ELAPSED = timedelta(minutes=30)
"""No attempt is made later than this after the first."""
BYTES_PER_TOKEN = 3
"""A cautious guess, for budgets only, at what is new in a request whose answer was cut off before the API counted
it. Nobody asks for a count then: an interrupt is to be recorded within a second."""

REQUEST_ENDS = frozenset({"end_turn", "stop_sequence"})


class ChunkSink(Protocol):
    def put(self, chunk: Chunk) -> None:
        """Take a chunk for watchers. Never blocks and never fails: a chunk may be lost, a turn may not."""
        ...


@dataclass(kw_only=True)
class TurnAttempt:
    request: ModelTurn
    effect_id: str
    grant: Granted
    catalogue: Catalogue
    transcript: Sequence[StoredMessage]
    lost: int
    """So many earlier attempts may have been billed, with nobody to tell how much."""
    ledger: Ledger
    client: ModelClient
    counter: TokenCounter
    steps: StepsTaken
    book: ToolBook
    chunks: ChunkSink
    prices: PriceTable | None
    observe: Callable[[AttemptReport], None]
    effects: EffectSettings
    faults: FaultPoints
    now: Callable[[], datetime]
    _answer: Answer = field(default_factory=Answer, init=False)
    _started: float = field(default_factory=time.monotonic, init=False)
    _seq: int = field(default=0, init=False)
    _sent: bool = field(default=False, init=False)
    _turned_away: bool = field(default=False, init=False)
    _asked: ModelRequest = field(init=False)
    _counted: int | None = field(default=None, init=False)
    """Tokens of the request before it was made shorter."""
    _patience: timedelta | None = field(default=None, init=False)
    """So long the provider asked for it, from whoever asks this model."""

    async def run(self, halt: Halt) -> TurnResult | None:
        """Stream and record. None when the claim was released because this attempt is to stop.

        Raises:
            ApplicationError: retryable, the claim is released or held by a newer attempt.
        """
        self._asked = self._build()
        async with renewing(
            self.ledger,
            self.effect_id,
            self.grant.token,
            lease=self.effects.lease,
            lost=lambda: halt.call("fenced"),
            interval=self.effects.renewal,
        ):
            error = await self._stream(halt)
            if self._answer.complete:
                return await self._record_answer()
            match halt.reason:
                case "cancel":
                    return await self._record_interrupted()
                case "release":
                    await self._release("released", {"reason": "the attempt was stopped"})
                    return None
                case "fenced":
                    self._report("superseded")
                    raise superseded("turn")
            assert error is not None  # nothing else ends a stream early
            return await self._fail(error)

    def _build(self, counted: int | None = None) -> ModelRequest:
        return build_request(
            self.catalogue,
            self.transcript,
            final=self.request.final,
            summary=self.request.summary,
            counted=counted,
            earlier=self.steps,
        )

    async def _stream(self, halt: Halt) -> Exception | None:
        """Read the answer until it is whole, fails, or `halt` is called; cancelling closes the connection."""
        if halt.reason is not None:
            return None
        try:
            await halt.cuts_off(self._read())
        except Exception as error:
            return error
        return None

    async def _read(self) -> None:
        self.faults(FaultPoint.BEFORE_DISPATCH, MODEL)
        self._started = time.monotonic()
        if self._asked.may_need_room:
            counted = await self.counter.count(self._asked)
            if counted is not None and counted > (self._asked.room_above or 0):
                self._make_room(counted)
        try:
            await self._send(self.effect_id)
        except Exception as error:
            if not self._made_room_for(error):
                raise
            await self._send(f"{self.effect_id}-shorter")

    async def _send(self, key: str) -> None:
        self._sent = True
        await read_answer(self.client, self._asked, idempotency_key=key, into=self._answer, show=self._show)

    def _made_room_for(self, error: Exception) -> bool:
        """Whether the request, refused for its length, is shorter now than the one that was refused."""
        refused = too_long(error)
        if refused is None or self._answer.started or self._counted is not None:
            return False
        before = self._asked
        self._make_room(refused.tokens or before.known + before.new)
        return self._asked.digest != before.digest

    def _make_room(self, tokens: int) -> None:
        """Take the memory's step now, which the next turn would take for the same reason."""
        self._asked, self._counted = self._build(tokens), tokens

    def _show(self, piece: Piece) -> None:
        if self._seq == 0:
            self.faults(FaultPoint.AFTER_DISPATCH_BEFORE_RESPONSE, MODEL)
        self.chunks.put(
            Chunk(
                session_id=self.request.session_id,
                turn=self.request.turn,
                token=self.grant.token,
                seq=self._seq,
                kind=piece.kind,
                text=piece.text,
            )
        )
        self._seq += 1

    async def _record_answer(self) -> TurnResult:
        blocks = kept_blocks(self._answer)
        if self.request.summary:
            blocks = [block for block in blocks if block.type != "tool_use"]  # nobody would answer it
        plan = plan_calls(blocks, request=self.request, catalogue=self.catalogue, book=self.book)
        usage = self._answer.usage
        result = self._result(plan, stop_reason=self._answer.stop_reason, usage=usage, usd=self._cost(usage))
        commit = not self.request.summary and not plan.calls and self._ends_request(self._answer.stop_reason)
        return await self._record(plan, result, commit_saga=commit)

    async def _record_interrupted(self) -> TurnResult:
        content = [dict(block.content) for block in said_blocks(self._answer)]
        plan = Plan(content=content, calls=(), planned=())
        result = self._result(plan, stop_reason="interrupted", usage=self._answer.usage, usd=self._assumed_cost())
        result = result.model_copy(update={"interrupted": True})
        return await self._record(plan, result, commit_saga=False)

    def _result(self, plan: Plan, *, stop_reason: str | None, usage: Usage, usd: Decimal | None) -> TurnResult:
        return TurnResult(
            stop_reason=stop_reason,
            message=ids.digest(ids.canonical(plan.content)),
            calls=plan.calls,
            usage=usage,
            usd=usd,
            text=head_of(plan.content),
            lost=self._lost_attempts(),
        )

    async def _record(self, plan: Plan, result: TurnResult, *, commit_saga: bool) -> TurnResult:
        turn = TurnRecord(
            effect_id=self.effect_id,
            session_id=self.request.session_id,
            token=self.grant.token,
            turn=self.request.turn,
            head=self.request.head,
            next_head=ids.next_head(self.request.head, result.message),
            digest=result.message,
            body=ids.canonical(plan.content),
            outcome={**result.model_dump(mode="json"), **({"malformed": plan.malformed} if plan.malformed else {})},
            stop_reason=result.stop_reason,
            model_asked=self._model,
            model_answered=self._answer.model,
            usage=result.usage,
            usd=result.usd,
            latency=self._latency,
            request_digest=self._asked.digest,
            final=self.request.final,
            summary=self.request.summary,
            counted=self._counted,
            calls=plan.planned,
            lost=result.lost,
            saga_id=self.request.saga.id,
            saga_epoch=self.request.saga.epoch,
            commit_saga=commit_saga,
        )
        self.faults(FaultPoint.AFTER_RESPONSE_BEFORE_RECORD, MODEL)
        recorded = await until_recorded(lambda: self.ledger.record_turn(turn))
        self.faults(FaultPoint.AFTER_RECORD_BEFORE_COMPLETION, MODEL)
        if not recorded.accepted:
            self._report("superseded", usd=result.usd)
            return _standing(recorded)
        self._report("interrupted" if result.interrupted else "done", usd=result.usd, calls=len(result.calls))
        return result.model_copy(update={"committed": recorded.committed})

    async def _fail(self, error: Exception) -> TurnResult:
        """Record why the attempt failed; retryable errors leave as such until the attempt budget is used up."""
        failure = classify(error, self.now())
        if failure is None:
            await self._release("transient", {"error": type(error).__name__})
            raise error  # a bug of ours: Temporal shows it and tries again
        self._turned_away = failure.turned_away
        if failure.permanent:
            return await self._record_failed(failure.message, failure, "permanent")
        self._patience = failure.retry_after if failure.busy else None
        delay = spread(failure.retry_after) if failure.retry_after else backoff(self.grant.attempt)
        if self.now() + delay - activity.info().scheduled_time > MAX_ELAPSED:
            message = f"{failure.message}; given up, since {MAX_ELAPSED} after the first attempt would be over"
            return await self._record_failed(message, failure, "transient")
        message = f"{failure.message}; given up after {self.grant.attempt} attempts"
        given_up = TurnResult(failed=message, lost=self._lost_attempts(own=True))
        recorded = await self._release("transient", failure.evidence, given_up=given_up, kind=failure.kind)
        if recorded is not None and recorded.state is EffectState.FAILED:  # that was the last attempt
            return _standing(recorded)
        raise later(failure.message, f"Model.{failure.kind}", delay, ordinary=failure.busy)

    async def _record_failed(self, message: str, failure: Failure, outcome: AttemptOutcome) -> TurnResult:
        result = TurnResult(failed=message, usd=self._unfinished_cost(), lost=self._lost_attempts(own=True))
        self._report(outcome, usd=result.usd, error=failure.kind)
        record = self._end(EffectState.FAILED, result, failure.evidence)
        recorded = await until_recorded(lambda: self.ledger.record(record))
        return result if recorded.accepted else _standing(recorded)

    async def _release(
        self,
        outcome: AttemptOutcome,
        evidence: Mapping[str, Any],
        *,
        given_up: TurnResult | None = None,
        kind: str | None = None,
    ) -> Recorded | None:
        """Give the claim back; None if Postgres is away, where the lease runs out by itself: same end, 15 s later.

        Args:
            given_up: the turn's outcome should this have been the last attempt of its budget.
        """
        self._report(outcome, usd=self._unfinished_cost(), error=kind)
        failed = given_up or TurnResult(
            failed="the model was tried too often without an answer", lost=self._lost_attempts(own=True)
        )
        try:
            return await self.ledger.record(self._end(EffectState.OPEN, failed, evidence))
        except LedgerUnavailable:
            activity.logger.warning("claim not released: Postgres is away", extra={"effect_id": self.effect_id})
            return None

    def _end(self, state: EffectState, result: TurnResult, evidence: Mapping[str, Any]) -> Record:
        cost = self._unfinished_cost()
        known = {"cost": "unknown" if cost is None else "none", "usage": self._answer.counted}
        return Record(
            effect_id=self.effect_id,
            session_id=self.request.session_id,
            token=self.grant.token,
            state=state,
            outcome=result.model_dump(mode="json"),
            latency=self._latency,
            evidence={**evidence, **known},
            usd=cost,
            lost=result.lost,
            dispatched=self._sent,
            service=model_service(self._model) if self._patience else None,
            leave_alone=self._patience,
        )

    def _ends_request(self, stop_reason: str | None) -> bool:
        """Whether a turn without calls is the request's last, so that its saga commits with it."""
        agent = self.catalogue.agent
        return (
            stop_reason in REQUEST_ENDS
            or (stop_reason == "refusal" and agent.on_refusal == "stop")
            or (stop_reason == "max_tokens" and agent.on_max_tokens == "stop")
        )

    def _cost(self, usage: Usage) -> Decimal | None:
        model = self._answer.model or self._model
        tokens = cost_usd(model, usage, on=self.now().date(), overrides=self.prices)
        searches = server_tools_usd(self._answer.counted.get("server_tool_use") or {})
        return None if tokens is None or searches is None else tokens + searches

    def _assumed_cost(self) -> Decimal | None:
        """What an interrupted answer may cost at most; nothing where none was asked for."""
        if not self._sent:
            return Decimal(0)
        most = self._at_most()
        return self._cost(most) if most.total > most.output else None

    def _at_most(self) -> Usage:
        """The most that one answer uses: the API counts at the end, so it may have gone on to `max_tokens`."""
        counted = self._answer.usage
        if not self._answer.started:
            counted = Usage(input=self._asked.known + self._asked.new // BYTES_PER_TOKEN)
        return counted.model_copy(update={"output": self.catalogue.agent.max_tokens})

    def _lost_attempts(self, *, own: bool = False) -> Lost | None:
        """What is assumed of the attempts whose answers were lost; with `own` of this one, too, where it was."""
        attempts = self.lost + (own and self._unfinished_cost() is None)
        if not attempts:
            return None
        most = self._at_most()
        return Lost.assumed(attempts, most, self._cost(most))

    def _unfinished_cost(self) -> Decimal | None:
        """What was not sent, or was turned away, is free; anything else has a cost that nobody told us."""
        return Decimal(0) if not self._sent or (self._turned_away and not self._answer.started) else None

    @property
    def _model(self) -> str:
        return model_asked(self.catalogue.agent, summary=self.request.summary)

    @property
    def _latency(self) -> timedelta:
        return timedelta(seconds=time.monotonic() - self._started)

    def _report(
        self, outcome: Any, *, usd: Decimal | None = None, calls: int = 0, error: str | None = None
    ) -> None:
        self.observe(
            AttemptReport(
                session_id=self.request.session_id,
                turn=self.request.turn,
                attempt=self.grant.attempt,
                outcome=outcome,
                model_asked=self._model,
                model_answered=self._answer.model,
                stop_reason=self._answer.stop_reason,
                usage=self._answer.usage,
                usd=usd,
                latency=self._latency,
                calls=calls,
                error=error,
            )
        )


def _standing(recorded: Recorded) -> TurnResult:
    """The outcome of the attempt that was faster."""
    if recorded.outcome is None:
        raise superseded("turn")
    return TurnResult.model_validate(recorded.outcome)
