"""One granted attempt of a call: dispatch within a second of the claim, then end in exactly one record.

Must hold: nothing is sent once the attempt is to stop or its claim is stale; what a write did is recorded, whoever
asked to stop meanwhile; and only an end that is known is recorded as one.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ValidationError

from holdfast import ids
from holdfast.catalogue import Catalogue, ToolCard
from holdfast.contracts import CallOutcome
from holdfast.errors import DeclarationError
from holdfast.recovery import Landed
from holdfast.states import CallStatus, EffectState, RecoveryClass, Tier
from holdfast.tools import Tool, ToolContext
from holdfast_activities.calls import endings, probing, running
from holdfast_activities.calls.context import context_of
from holdfast_activities.calls.endings import Ending
from holdfast_activities.calls.outgoing import Outgoing, client_for
from holdfast_activities.calls.rendering import rendered
from holdfast_activities.calls.report import CallReport
from holdfast_activities.calls.surroundings import Surroundings
from holdfast_activities.calls.undo import undo_of
from holdfast_activities.faults import FaultPoint
from holdfast_activities.halt import Halt
from holdfast_activities.lease import renewing
from holdfast_activities.recording import until_recorded
from holdfast_activities.retries import BACKOFF_MOST, backoff, later, superseded
from holdfast_activities.tools.arguments import facts_of, keyword_arguments, recovery_for
from holdfast_ledger.records import Claim, Granted, Record, Recorded

DISPATCH_WITHIN = timedelta(seconds=1)
"""Of sending the claim, on the monotonic clock: later than that, the claim is no fence any more."""
_log = logging.getLogger("holdfast.calls")


class _NotAccepted(Exception):
    """A newer attempt holds the effect: roll back what this one did inside the transaction."""

    def __init__(self, recorded: Recorded) -> None:
        super().__init__("not accepted")
        self.recorded = recorded


@dataclass(kw_only=True)
class CallAttempt:
    claim: Claim
    grant: Granted
    claimed_at: float
    """Monotonic time just before the claim was sent."""
    catalogue: Catalogue
    card: ToolCard
    around: Surroundings
    trace: Mapping[str, str]
    undo_key: str | None = None
    longest_pause: timedelta = BACKOFF_MOST
    _started: float = field(default_factory=time.monotonic, init=False)
    _tier: Tier = field(default=Tier.IRREVERSIBLE, init=False)
    _recovery: RecoveryClass = field(default=RecoveryClass.OPERATOR, init=False)
    _args: dict[str, Any] = field(default_factory=dict, init=False)
    _leash: running.Leash = field(default_factory=running.Leash, init=False)
    _recorded: Recorded | None = field(default=None, init=False)
    _keys_refused: int = field(init=False)

    def __post_init__(self) -> None:
        self._keys_refused = self.grant.keys_refused

    async def run(self, halt: Halt) -> CallOutcome | None:
        """Dispatch and record. None when the effect was released because this attempt is to stop.

        Raises:
            ApplicationError: retryable; the effect is released, or a newer attempt holds it.
        """
        ending = await self._end(halt)
        record = self._record(ending)
        if self._recorded is None:
            self._reach(FaultPoint.AFTER_RESPONSE_BEFORE_RECORD)
        recorded = self._recorded or await until_recorded(lambda: self.around.ledger.record(record))
        self._reach(FaultPoint.AFTER_RECORD_BEFORE_COMPLETION)
        self._report(ending, recorded)
        if recorded.outcome is not None:  # what stands, which may be another attempt's or the ledger's own
            return CallOutcome.model_validate(recorded.outcome)
        if not recorded.accepted or halt.reason == "fenced":
            raise superseded("call")
        if halt.reason is not None:
            return None
        raise later(
            f"`{self.card.name}`: attempt {self.grant.attempt} ended {ending.word}",
            f"Tool.{ending.code}",
            ending.retry_after or backoff(self.grant.attempt, most=self.longest_pause),
            ordinary=ending.word == "released",
        )

    async def _end(self, halt: Halt) -> Ending:
        """Everything up to the record; never raises for what the tool does."""
        try:
            declared = self.around.book.tool(self.card)
            arguments = self._arguments(declared)
        except (DeclarationError, ValidationError) as error:
            # A deploy may be under way, so this is another worker's to try; the budget ends it.
            _log.error("call cannot start", extra={"tool": self.card.name, "error": type(error).__name__})
            return endings.unavailable(self.card, "this worker cannot run it", error=type(error).__name__)
        async with renewing(
            self.around.ledger,
            self.claim.effect_id,
            self.grant.token,
            lease=self.around.lease,
            lost=lambda: halt.call("fenced"),
            interval=self.around.renewal,
        ):
            if self.grant.probe and (known := await self._probe(declared, arguments, halt)):
                return known
            async with self._sending(declared.context_parameter is not None) as (context, outgoing):
                self._reach(FaultPoint.BEFORE_DISPATCH)
                if halt.reason is not None:
                    return endings.released(halt.reason)
                if time.monotonic() - self.claimed_at > DISPATCH_WITHIN.total_seconds():
                    return endings.released("too long since the claim")
                if self._recovery is RecoveryClass.TRANSACTIONAL:
                    return await self._transact(declared, arguments, context, outgoing, halt)
                return await self._dispatch(declared, arguments, context, outgoing, halt)

    @asynccontextmanager
    async def _sending(self, wanted: bool = True) -> AsyncIterator[tuple[ToolContext | None, Outgoing]]:
        """What the tool, or its probe, sends with, and what is known of it afterwards; each has its own.

        Args:
            wanted: it takes a context; one that takes none sends by means of its own.
        """
        outgoing = Outgoing(
            self.around.transport, answered=lambda: self._reach(FaultPoint.AFTER_DISPATCH_BEFORE_RESPONSE)
        )
        if not wanted:
            yield None, outgoing
            return
        key = ids.idempotency_key(self.claim.effect_id, self._keys_refused)
        async with client_for(outgoing, key=key, trace=self.trace, timeout=self.card.timeout) as client:
            context = context_of(
                self.around,
                self.catalogue,
                self.card,
                key=key,
                session_id=self.claim.session_id,
                client=client,
                leash=self._leash,
                undo_key=self.undo_key,
            )
            yield context, outgoing

    def _reach(self, point: FaultPoint) -> None:
        self.around.faults(point, self.card.name)

    def _arguments(self, declared: Tool) -> BaseModel:
        self._args = json.loads(self.grant.args or b"{}")
        arguments = declared.arguments.model_validate(self._args)
        try:
            tier = Tier(facts_of(declared, arguments).get("tier", self.card.tier))
        except (
            Exception
        ) as error:  # the author's function agreed to these arguments once, when the call was planned
            raise DeclarationError(f"facts of `{declared.name}` failed: {type(error).__name__}") from error
        self._tier, self._recovery = tier, recovery_for(self.card, tier)
        return arguments

    async def _dispatch(
        self, declared: Tool, arguments: BaseModel, context: ToolContext | None, outgoing: Outgoing, halt: Halt
    ) -> Ending:
        self._started = time.monotonic()
        try:
            value = await running.run(
                declared,
                self._keywords(declared, arguments, context),
                timeout=self.card.timeout,
                writes=self._tier is not Tier.READ,
                halt=halt,
                leash=self._leash,
                threads=self.around.threads,
            )
        except running.Stopped:
            return endings.stopped_read()
        except Exception as error:  # whatever the tool raises is judged, never let through
            return self._judge(error, outgoing)
        return await self._done(declared, value)

    async def _transact(
        self, declared: Tool, arguments: BaseModel, context: ToolContext | None, outgoing: Outgoing, halt: Halt
    ) -> Ending:
        """Run the tool inside the recording transaction: its rows and its record stand or fall together."""
        try:
            async with self.around.ledger.transaction(stall=self.card.timeout + self.around.lease) as connection:
                inside = replace(context, transaction=connection) if context else None
                ending = await self._dispatch(declared, arguments, inside, outgoing, halt)
                if ending.state is not EffectState.DONE:
                    raise _RolledBack(ending)
                self._reach(FaultPoint.AFTER_RESPONSE_BEFORE_RECORD)
                recorded = await self.around.ledger.record_within(connection, self._record(ending))
                if not recorded.accepted:
                    raise _NotAccepted(recorded)
        except _RolledBack as rolled_back:
            return rolled_back.ending
        except _NotAccepted as refused:
            self._recorded = refused.recorded
            return ending
        except Exception as error:
            # Of Postgres, not of the tool. Committed or not, the next claim knows: nothing is recorded over it.
            raise later(
                f"the transaction failed: {type(error).__name__}", "Transaction", self.around.lease
            ) from error
        self._recorded = recorded
        return ending

    async def _probe(self, declared: Tool, arguments: BaseModel, halt: Halt) -> Ending | None:
        """Ask the service whether an earlier attempt landed. None: it did not and never will."""
        async with self._sending() as (context, _):
            assert context is not None
            asked = await probing.ask(declared, arguments, context, leash=self._leash, threads=self.around.threads)
        if isinstance(asked.answer, Landed):
            return await self._done(declared, asked.answer.result, evidence=asked.evidence)
        if not asked.never:
            return endings.in_doubt(asked.said, self.card, self._recovery, asked.evidence)
        if self.claim.settle_tries is not None:
            return endings.did_not_happen(self.card, asked.evidence)
        sent = time.monotonic()
        refused = await self.around.ledger.refuse_key(self.claim.effect_id, self.grant.token, self.around.lease)
        if refused is None:
            halt.call("fenced")
            return endings.released("a newer attempt is at work")
        self.claimed_at, self._keys_refused = sent, refused  # the claim is still ours: as fresh as a new one
        return None

    async def _done(self, declared: Tool, value: Any, evidence: Mapping[str, Any] | None = None) -> Ending:
        result = await rendered(
            declared,
            value,
            call=self.claim.call or "",
            cap=self.card.result_cap,
            redactor=self.around.redactor,
        )
        return endings.done(result, evidence)

    def _judge(self, error: Exception, outgoing: Outgoing) -> Ending:
        reference = f"{self.claim.call}-{self.claim.effect_id[:8]}"
        ending = endings.judge(
            error,
            card=self.card,
            tier=self._tier,
            recovery=self._recovery,
            outgoing=outgoing,
            reference=reference,
        )
        if ending.word == "internal":
            places = _places(error)
            _log.error("tool failed", extra={"reference": reference, "tool": self.card.name, **places})
        return ending

    def _keywords(self, declared: Tool, arguments: BaseModel, context: ToolContext | None) -> dict[str, Any]:
        keywords = keyword_arguments(arguments)
        if (name := declared.context_parameter) is not None:
            keywords[name] = context
        return keywords

    def _record(self, ending: Ending) -> Record:
        rendered = ending.rendered
        usd = self._usd(ending)
        outcome = CallOutcome(
            status=ending.status,
            digest=rendered.digest if rendered else "",
            size=len(rendered.result) if rendered else 0,
            code=ending.code,
            text=self.around.redactor.text(ending.text) if ending.text else ending.text,
            usd=usd,
        )
        undo, undo_evidence = (
            undo_of(self.around.book.tool(self.card), self.catalogue, self._args, rendered.value)
            if rendered and self._tier is not Tier.READ and self.claim.kind == "call"
            else (None, {})  # an undo is never undone
        )
        return Record(
            effect_id=self.claim.effect_id,
            session_id=self.claim.session_id,
            token=self.grant.token,
            state=ending.state,
            doubt=ending.doubt,
            final=ending.final or self.grant.probe,  # where a probe was asked, only its final no let this one send
            dispatched=ending.dispatched,
            outcome=outcome.model_dump(mode="json"),
            result=rendered.result if rendered else None,
            shown=rendered.shown if rendered else None,
            latency=self._latency,
            evidence=self.around.redactor.evidence({**ending.evidence, **undo_evidence}),
            undo=undo,
            usd=usd,
            failed=endings.blames_the_service(ending),
            breaker=self.card.breaker,
            service=self.card.service,
        )

    def _usd(self, ending: Ending) -> Decimal:
        """A tool without a declared cost is free."""
        return Decimal(str(self.card.cost_usd or 0)) if ending.dispatched else Decimal(0)

    @property
    def _latency(self) -> timedelta:
        return timedelta(seconds=time.monotonic() - self._started)

    def _report(self, ending: Ending, recorded: Recorded) -> None:
        settled = ending.state is not EffectState.OPEN or recorded.outcome is not None
        self.around.observe(
            CallReport(
                session_id=self.claim.session_id,
                turn=self.claim.turn,
                call=self.claim.call or "",
                tool=self.card.name,
                tier=self._tier,
                service=self.card.service,
                effect_id=self.claim.effect_id,
                attempt=self.grant.attempt,
                outcome=ending.word if recorded.accepted else "superseded",
                settled=settled,
                status=_settled_as(ending, recorded),
                code=ending.code,
                latency=self._latency,
                size=len(ending.rendered.result) if ending.rendered else 0,
                usd=self._usd(ending),
                argument_keys=tuple(sorted(self._args)),
                error=ending.evidence.get("error"),
            )
        )


def _settled_as(ending: Ending, recorded: Recorded) -> CallStatus | None:
    """The call's outcome, where this attempt settled it."""
    if not recorded.accepted or recorded.outcome is None:
        return None
    return CallStatus(recorded.outcome["status"])


class _RolledBack(Exception):
    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.word)
        self.ending = ending


def _places(error: Exception) -> dict[str, Any]:
    """Where it was raised, without its message: that may quote arguments."""
    frames = []
    at = error.__traceback__
    while at is not None:
        frames.append(f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}")
        at = at.tb_next
    return {"error": type(error).__name__, "frames": frames[-8:]}
