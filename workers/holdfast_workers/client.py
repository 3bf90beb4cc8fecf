"""The typed client: start a session, talk to it, decide for it, wait for it.

A message is stored in Postgres first and sent by digest, so that bodies never enter Temporal's history. Every
command carries an id its sender chose, so that sending it again changes nothing: not through the Update, and
not through the durable signal that takes the Update's place where no worker answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from temporalio.client import (
    WorkflowFailureError,
)
from temporalio.common import (
    Priority,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, CancelledError, WorkflowAlreadyStartedError
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode

from holdfast import ids
from holdfast.budget import TighterLimits
from holdfast.messages import (
    RECEIPT_MARK,
    SESSION_WORKFLOW,
    Command,
    Decide,
    Principal,
    Resolve,
    ResolveOutcome,
    Send,
    SessionInput,
    SessionResult,
)
from holdfast.states import SessionStatus
from holdfast_ledger.errors import LedgerUnavailable
from holdfast_ledger.reading import Reader
from holdfast_ledger.records import Registration
from holdfast_ledger.store import Ledger
from holdfast_workers.config_file import load_config
from holdfast_workers.fairness import priority_of
from holdfast_workers.saga_client import SagaCommands, SagaRefused, StartedSaga
from holdfast_workers.sending import (
    SETTLED_AS,
    Content,
    Delivered,
    MessageRefused,
    Rejected,
    SessionEnded,
    SessionNotFound,
    Started,
    check_probe,
    check_session_id,
    details,
    message_body,
    new_id,
    not_resolved,
    resolution,
)
from holdfast_workers.settings import Settings
from holdfast_workers.temporal import connect_temporal
from holdfast_workflows import attributes

if TYPE_CHECKING:
    from holdfast_activities.calls.found import Found

FIRST_MESSAGE = "start"
"""Id of the message a session starts with."""


__all__ = [
    "Content",
    "Delivered",
    "Holdfast",
    "MessageRefused",
    "Rejected",
    "SagaRefused",
    "SessionEnded",
    "SessionNotFound",
    "Started",
    "StartedSaga",
    "connect_ledger",
    "new_id",
]


class Holdfast(SagaCommands):
    """Sessions of one Temporal namespace and one ledger.

    Every method may raise `TemporalUnavailable` or `holdfast_ledger`'s `LedgerUnavailable`; the call can then be
    made again with the same ids.
    """

    @classmethod
    async def connect(cls, settings: Settings, *, runtime: Runtime | None = None) -> Self:
        """Connect to both servers. Close it again, or use it as an async context manager.

        Args:
            runtime: Temporal's; its default one where none is given.
        """
        temporal = await connect_temporal(settings.temporal, runtime=runtime)
        ledger = await connect_ledger(settings)
        return cls(
            temporal, ledger, task_queue=settings.task_queue, fairness=settings.fairness, trace=settings.trace
        )

    async def close(self) -> None:
        await self.ledger.close()

    @property
    def reader(self) -> Reader:
        """What the ledger tells: sessions, timelines, approvals, effects."""
        return self.ledger.reader

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(
        self,
        message: Content,
        *,
        agent: str = "default",
        session_id: str | None = None,
        principal: Principal = Principal(),  # noqa: B008 - frozen
        limits: TighterLimits | None = None,
        close_when_idle: bool = False,
        priority: int | None = None,
        trace: Mapping[str, str] | None = None,
    ) -> Started:
        """Start a session with its first message, once, however often this is called with the same arguments.

        Args:
            session_id: a UUIDv7 is minted where none is given.
            close_when_idle: one request, then the session completes.
            priority: 1, the most urgent, to 5; where more waits than workers have room for, it goes first.
            trace: W3C trace context of the caller; the active span's where none is given.

        Raises `MessageRefused`, and the ledger's `SessionIdReused` when the id belongs to another start.
        """
        body = message_body(message)
        chosen = check_session_id(session_id or new_id())
        send = Send(id=FIRST_MESSAGE, digest=ids.digest(body), by=principal.requested_by)
        request = SessionInput(
            agent=agent,
            send=send,
            principal=principal,
            close_when_idle=close_when_idle,
            **({"limits": limits} if limits else {}),
        )
        registered = await self.ledger.register(
            Registration(
                session_id=chosen,
                agent=agent,
                start_digest=ids.digest(ids.canonical(request.model_dump(mode="json", exclude_unset=True))),
                requested_by=principal.requested_by,
                on_behalf_of=principal.on_behalf_of,
                tenant=principal.tenant,
                labels=principal.labels,
            )
        )
        if registered.first_run_id is not None:
            return Started(session_id=chosen, fresh=False, status=registered.status)
        # Announced but never opened: this call, or an earlier one that did not get further.
        await self.ledger.store_message(chosen, body)
        first = send.model_copy(update={"trace": self._trace(trace)})
        fresh = await self._start_workflow(chosen, request.model_copy(update={"send": first}), priority)
        return Started(session_id=chosen, fresh=fresh and registered.fresh, status=registered.status)

    async def send(
        self,
        session_id: str,
        message: Content,
        *,
        by: str,
        message_id: str | None = None,
        steer: bool = False,
        trace: Mapping[str, str] | None = None,
    ) -> Delivered:
        """Give the session its next request, or with `steer` add to the open one.

        `trace` is as for `start`.

        Raises `MessageRefused`, `SessionNotFound`, `SessionEnded` or `Rejected`.
        """
        body = message_body(message)
        await self._must_run(session_id)
        digest = await self.ledger.store_message(session_id, body)
        send = Send(id=message_id or new_id(), digest=digest, by=by, steer=steer, trace=self._trace(trace))
        delivered = await self._deliver(session_id, "send", send.id, send)
        if delivered.message not in (None, digest[:RECEIPT_MARK]):  # Temporal answers a known id by itself
            raise Rejected(f"the message id `{send.id}` was used before for another message", "id_reused")
        return delivered

    async def decide(
        self,
        session_id: str,
        call: str,
        *,
        approve: bool,
        digest: str,
        by: str,
        reason: str = "",
        decision_id: str | None = None,
    ) -> Delivered:
        """Allow or deny one call with the arguments that `digest` names.

        Raises `Rejected` when the call is not pending, was decided otherwise, expired, or has other arguments.
        """
        decision = Decide(
            id=decision_id or new_id(), call=call, digest=digest, approve=approve, by=by, reason=reason
        )
        return await self._deliver(session_id, "decide", decision.id, decision)

    async def interrupt(self, session_id: str, *, by: str, reason: str = "") -> Delivered:
        """Stop this turn; what was said so far is kept."""
        return await self._command(session_id, "interrupt", by, reason)

    async def abort(self, session_id: str, *, by: str, reason: str = "") -> Delivered:
        """Stop this request. What it did stands, recorded with its undo; its saga is then HELD, else ABORTED."""
        return await self._command(session_id, "abort", by, reason)

    async def close_session(self, session_id: str, *, by: str, reason: str = "") -> Delivered:
        """Finish the session, keeping what was done."""
        return await self._command(session_id, "close", by, reason)

    async def resolve(
        self, effect_id: str, *, outcome: ResolveOutcome, by: str, reason: str = "", result: Found | None = None
    ) -> Delivered:
        """Say what a person found out about an effect whose outcome is unknown: to the ledger, then to its session.

        `retry` opens it again, and its session runs it under the same key; `probe` asks its service now. Saying the
        same again is safe where the session was never told.

        Args:
            result: with `happened`: what the tool would have returned, from `holdfast_activities.calls.found`.

        Raises the ledger's `EffectMissing`, and `Rejected` where the effect is not in doubt, or was settled before.
        """
        effect = await self.reader.effect(effect_id)
        digest = result.digest if result else ""
        said = Resolve(
            id=new_id(),
            call=effect.call or "",
            happened=outcome == "happened",
            outcome=outcome,
            digest=digest,
            by=by,
            reason=reason,
        )
        if outcome == "probe":
            check_probe(effect)
            return await self._deliver(effect.session_id, "resolve", said.id, said)
        recorded = await self.ledger.resolve(resolution(effect, said, result))
        if not recorded.accepted and recorded.state is not SETTLED_AS[outcome]:
            raise Rejected(not_resolved(recorded.state, outcome), "not_pending")
        try:
            return await self._deliver(effect.session_id, "resolve", said.id, said)
        except (SessionEnded, SessionNotFound, Rejected) as error:
            if not recorded.accepted:
                raise Rejected(
                    f"It was settled before, as {recorded.state}; nothing changed.", "not_pending"
                ) from error
            if outcome == "retry":
                raise Rejected(
                    f"It is not run again, since nobody waits for it, and stays in doubt: {error}", "not_pending"
                ) from error
            # The ledger has it, and the session needs it no more.
            return Delivered(id=said.id, how="now", detail=str(error))

    async def look_again(self, session_id: str, *, by: str, reason: str = "") -> Delivered:
        """Let a session go on that is held because Postgres was older than it. Raises `Rejected` if it is not."""
        again = Resolve(id=new_id(), call="*", by=by, reason=reason)
        return await self._deliver(session_id, "resolve", again.id, again)

    async def result(self, session_id: str) -> SessionResult:
        """Wait for the session's end.

        One that ended without a result of its own (failed, cancelled, terminated) has 0 turns here, and the reason.
        """
        try:
            return await self._handle(session_id).result()
        except WorkflowFailureError as failure:
            cause = failure.cause
            status = SessionStatus.ABORTED if isinstance(cause, CancelledError) else SessionStatus.FAILED
            said = cause.message if isinstance(cause, ApplicationError) else str(cause)
            return SessionResult(status=status, turns=0, calls=0, reason=said)
        except RPCError as error:
            raise self._explained(session_id, error) from error

    async def _command(self, session_id: str, name: str, by: str, reason: str) -> Delivered:
        command = Command(id=new_id(), by=by, reason=reason)
        return await self._deliver(session_id, name, command.id, command)

    async def _start_workflow(self, session_id: str, request: SessionInput, priority: int | None) -> bool:
        """Start it; False if it was started before."""
        principal = request.principal
        known: list[SearchAttributePair[Any]] = [
            SearchAttributePair(attributes.STATUS, SessionStatus.RUNNING.value),
            SearchAttributePair(attributes.AGENT, request.agent),
            SearchAttributePair(attributes.PENDING_APPROVALS, 0),
            *([SearchAttributePair(attributes.TENANT, principal.tenant)] if principal.tenant else []),
        ]
        share = priority_of(principal, self._fairness, priority)
        try:
            return await self._start_once(session_id, request, TypedSearchAttributes(known), share)
        except RPCError as error:
            # The server lacks the attributes: they are optional, and `holdfast doctor` says how to make them.
            if error.status is RPCStatusCode.INVALID_ARGUMENT and "search attribute" in error.message.lower():
                return await self._start_once(session_id, request, TypedSearchAttributes.empty, share)
            raise self._explained(session_id, error) from error

    async def _start_once(
        self, session_id: str, request: SessionInput, attributes: TypedSearchAttributes, share: Priority
    ) -> bool:
        try:
            await self.temporal.start_workflow(
                SESSION_WORKFLOW,
                request,
                id=session_id,
                task_queue=self._task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                search_attributes=attributes,
                priority=share,
                static_summary=f"{request.agent} for {request.principal.requested_by}",
                static_details=details(session_id, request),
            )
        except WorkflowAlreadyStartedError:
            return False  # registered with the same digest, so it is this very start
        return True


async def connect_ledger(settings: Settings, *, max_size: int = 2) -> Ledger:
    """Connect to Postgres as the app role.

    Raises `LedgerUnavailable`, also where nobody said which Postgres; `KeysError`, `BadMasterKey`, `ConfigError`.
    """
    if settings.dsn is None:
        raise LedgerUnavailable(
            "No Postgres is known: start the stack with `holdfast up`, or set HOLDFAST_DSN or --dsn."
        )
    keys = settings.keys.open()
    return await Ledger.connect(
        settings.dsn,
        min_size=1,
        max_size=max_size,
        pgbouncer=settings.pgbouncer,
        keys=keys,
        encryption=load_config(settings.config).ledger.encryption if keys else "auto",
    )
