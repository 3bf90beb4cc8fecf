"""The client's part for sagas: start one that code defines, wait for its end, stop it, have any unwound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.common import RetryPolicy, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from holdfast import ids
from holdfast.errors import HoldfastError
from holdfast.messages import Command, Principal
from holdfast.saga_contracts import (
    SAGA_WORKFLOW,
    SWEEP_WORKFLOW,
    UNWIND_WORKFLOW,
    SagaInput,
    SagaResult,
    SweepInput,
    SweepResult,
    UnwindInput,
    UnwindResult,
    unwind_id,
)
from holdfast.states import SagaState
from holdfast_ledger.errors import SagaMissing
from holdfast_ledger.saga_records import Moved, SagaResolution
from holdfast_workers.reach import Reach
from holdfast_workers.sending import Delivered, Rejected, SessionEnded, SessionNotFound, check_session_id, new_id

STARTED_WITH = "start_digest"
"""Memo of a `SagaRun`: what it was started with, so that its id is not used for another start unnoticed."""
AGAIN = WorkflowIDReusePolicy.ALLOW_DUPLICATE
FORWARD = (SagaState.OPEN, SagaState.COMMITTING, SagaState.FORWARD_PENDING)
ONCE = RetryPolicy(maximum_attempts=1)
"""A saga that could not begin is refused for good."""

OPENED_WITHIN = timedelta(seconds=5)
"""How long a worker may take to open a saga before whoever started it goes on."""
LOOK_EVERY_S = 0.05
ANYHOW = {
    "pivot": (
        ". `holdfast saga resolve {saga} --retry` tries again what failed, `--keep` leaves it as it is; "
        "`holdfast saga show {saga}` says what has landed"
    ),
    "committed": ". Undoing it is a request of its own",
    "not_held": ". `holdfast saga show {saga}` says what it has done",
}
"""What a person who is refused can still do, by the code of the refusal."""


class SagaRefused(HoldfastError):
    """The saga could not begin; nothing was done."""

    code = "invalid"


@dataclass(frozen=True, kw_only=True)
class StartedSaga:
    """`fresh` False: the same start was made before, and this is that saga."""

    saga_id: str
    fresh: bool


class SagaCommands(Reach):
    """What `Holdfast` can do with sagas. Every method may raise as those of `Holdfast` do."""

    async def start_saga(
        self,
        name: str,
        args: Mapping[str, Any] | BaseModel,
        *,
        saga_id: str | None = None,
        version: str | None = None,
        principal: Principal = Principal(),  # noqa: B008 - frozen
        parent: str | None = None,
        trace: Mapping[str, str] | None = None,
    ) -> StartedSaga:
        """Start a saga that code defines, once, however often this is called with the same arguments.

        Args:
            saga_id: its workflow id; a UUIDv7 is minted where none is given.
            version: the newest its worker has where none is given.
            parent: the session that starts it.

        Raises `MessageRefused` for an id that cannot be one, `Rejected` where it belongs to another start.
        """
        given = args.model_dump(mode="json") if isinstance(args, BaseModel) else dict(args)
        start = SagaInput(name=name, version=version, args=given, principal=principal, parent=parent)
        chosen = check_session_id(saga_id or new_id())
        digest = ids.digest(ids.canonical(start.model_dump(mode="json")))
        fresh = await self._start_saga(chosen, start.model_copy(update={"trace": self._trace(trace)}), digest)
        if not fresh and not await self._is_start_of(chosen, start, digest):
            raise Rejected(f"the id `{chosen}` was used before, for another start", "id_reused")
        return StartedSaga(saga_id=chosen, fresh=fresh)

    async def go_on_with_saga(self, saga_id: str) -> StartedSaga:
        """Run a saga again that is past its pivot and whose run has ended. `fresh` False: it runs already.

        What landed answers from its row. Raises `Rejected` for a session's own, and the ledger's `SagaMissing`.
        """
        found = await self.ledger.sagas.row(saga_id)
        if found.name is None:
            raise Rejected(f"{saga_id} was opened by a session's request; the session goes on with it", "not_code")
        start = SagaInput.model_validate(found.input or {"name": found.name, "version": found.version})
        digest = ids.digest(ids.canonical(start.model_dump(mode="json")))
        return StartedSaga(saga_id=saga_id, fresh=await self._start_saga(saga_id, start, digest, reuse=AGAIN))

    async def saga_result(self, saga_id: str) -> SagaResult:
        """Wait until its run has ended. FORWARD_PENDING, HELD and STUCK are no ends: a person helps it on.

        Of a run that ended without a result of its own (cancelled, terminated) the ledger tells where its saga
        stands: OPEN or UNWINDING while nobody has unwound it yet.

        Raises `SagaRefused` for one that could not begin, and the ledger's `SagaMissing`.
        """
        try:
            return await self._saga_handle(saga_id).result()
        except WorkflowFailureError as failure:
            if isinstance(failure.cause, ApplicationError):
                raise SagaRefused(failure.cause.message) from failure
            found = await self.ledger.sagas.row(saga_id)
            return SagaResult(outcome=found.state, reason=found.reason or f"its run ended early: {failure.cause}")
        except RPCError as error:
            raise self._explained(saga_id, error) from error

    async def saga_opened(self, saga_id: str, within: timedelta = OPENED_WITHIN) -> bool:
        """Wait until a worker has opened it; False where none did in time.

        Raises `SagaRefused` for one that could not begin.
        """
        deadline = time.monotonic() + within.total_seconds()
        while time.monotonic() < deadline:
            try:
                await self.ledger.sagas.row(saga_id)
            except SagaMissing:
                if await self._has_ended(saga_id):
                    await self.saga_result(saga_id)
            else:
                return True
            await asyncio.sleep(LOOK_EVERY_S)
        return False

    async def abort_saga(self, saga_id: str, *, by: str, reason: str = "") -> Delivered:
        """Stop a saga that code defines and undo what it did, whether or not its run is alive.

        Raises `Rejected` past its pivot, and where it has ended: with what can still be done.
        """
        command = Command(id=new_id(), by=by, reason=reason)
        try:
            return await self._deliver(saga_id, "abort", command.id, command)
        except (SessionEnded, SessionNotFound):
            said = SagaResolution(
                id=command.id, session_id=saga_id, saga_id=saga_id, what="abort", by=by, reason=reason
            )
            await self.resolve_saga(said)
        return Delivered(id=command.id, how="now", detail="its run was dead; what it did is being undone")

    async def start_unwind(self, session_id: str, saga_id: str, *, by: str, reason: str = "") -> bool:
        """Have a saga unwound whose forward side is dead; of a code-defined one both ids are the same.

        Returns False where its one `Unwind` runs already. `unwind_result` waits for it.
        """
        try:
            await self.temporal.start_workflow(
                UNWIND_WORKFLOW,
                UnwindInput(session_id=session_id, saga_id=saga_id, reason=reason, by=by, trace=self._trace(None)),
                id=unwind_id(saga_id),
                task_queue=await self._queue_of(session_id),
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                static_summary=f"unwind {saga_id}: {reason}"[:200],
            )
        except WorkflowAlreadyStartedError:
            return False
        except RPCError as error:
            raise self._explained(saga_id, error) from error
        return True

    async def resolve_saga(self, resolution: SagaResolution) -> Moved:
        """Record what a person says of a saga, then let it go on; where nobody can start it now, the sweep will.

        Raises `Rejected` where it cannot be done, with why and what can.
        """
        moved = await self.ledger.sagas.resolve(resolution)
        if moved.code:
            also = ANYHOW.get(moved.code, "").format(saga=resolution.saga_id)
            raise Rejected(moved.said + also, "not_found" if moved.code == "missing" else moved.code)
        if moved.state is SagaState.UNWINDING:
            reason = f"{resolution.what}: {resolution.reason}"
            await self.start_unwind(resolution.session_id, resolution.saga_id, by=resolution.by, reason=reason)
        elif moved.state in FORWARD and resolution.saga_id == resolution.session_id:
            await self.go_on_with_saga(resolution.saga_id)
        return moved

    async def sweep(self, *, force: bool = False) -> SweepResult:
        """Look for sagas and sessions whose workflow died, now; joins a sweep by hand that runs."""
        handle: WorkflowHandle[Any, SweepResult] = await self.temporal.start_workflow(
            SWEEP_WORKFLOW,
            SweepInput(force=force, older_than=timedelta(0), every_session=True),
            id=f"sweep-{self._task_queue}-by-hand",
            task_queue=self._task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            result_type=SweepResult,
        )
        return await handle.result()

    async def _queue_of(self, workflow_id: str) -> str:
        """Whose workers have the code that this workflow ran with; our own where Temporal does not know it."""
        try:
            return (await self.temporal.get_workflow_handle(workflow_id).describe()).task_queue
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return self._task_queue
            raise

    async def unwind_result(self, saga_id: str) -> UnwindResult:
        """Wait for the end of the newest `Unwind` of this saga."""
        handle: WorkflowHandle[Any, UnwindResult] = self.temporal.get_workflow_handle(
            unwind_id(saga_id), result_type=UnwindResult
        )
        try:
            return await handle.result()
        except WorkflowFailureError as failure:
            return UnwindResult(outcome=SagaState.UNWINDING, reason=f"the unwind ended early: {failure.cause}")
        except RPCError as error:
            raise self._explained(unwind_id(saga_id), error) from error

    async def _start_saga(
        self,
        saga_id: str,
        start: SagaInput,
        digest: str,
        *,
        reuse: WorkflowIDReusePolicy = WorkflowIDReusePolicy.REJECT_DUPLICATE,
    ) -> bool:
        """Start it; False if it was started before."""
        principal = start.principal
        try:
            await self.temporal.start_workflow(
                SAGA_WORKFLOW,
                start,
                id=saga_id,
                task_queue=self._task_queue if reuse is not AGAIN else await self._queue_of(saga_id),
                id_reuse_policy=reuse,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                retry_policy=ONCE,
                memo={STARTED_WITH: digest},
                static_summary=f"saga {start.name} for {principal.requested_by}"[:200],
                static_details=_details(start),
            )
        except WorkflowAlreadyStartedError:
            return False
        except RPCError as error:
            raise self._explained(saga_id, error) from error
        return True

    async def _has_ended(self, saga_id: str) -> bool:
        try:
            return (await self._saga_handle(saga_id).describe()).status is not WorkflowExecutionStatus.RUNNING
        except RPCError as error:
            raise self._explained(saga_id, error) from error

    async def _is_start_of(self, saga_id: str, start: SagaInput, digest: str) -> bool:
        """Whether this very start made it. Of a run that went on, its row in the ledger says so."""
        try:
            memo = await (await self._saga_handle(saga_id).describe()).memo()
        except RPCError as error:
            raise self._explained(saga_id, error) from error
        if memo.get(STARTED_WITH) == digest:
            return True
        try:
            known = (await self.ledger.sagas.row(saga_id)).input
        except SagaMissing:
            return False
        if known is None:
            return False
        first = SagaInput.model_validate(known)
        same = start.model_copy(update={"version": start.version or first.version})
        return ids.canonical(same.model_dump(mode="json")) == ids.canonical(first.model_dump(mode="json"))

    def _saga_handle(self, saga_id: str) -> WorkflowHandle[Any, SagaResult]:
        return self.temporal.get_workflow_handle(saga_id, result_type=SagaResult)


def _details(start: SagaInput) -> str:
    principal = start.principal
    lines = [
        f"**Saga** {start.name}" + (f" version {start.version}" if start.version else ""),
        f"**Requested by** {principal.requested_by}",
        *([f"**On behalf of** {principal.on_behalf_of}"] if principal.on_behalf_of else []),
        *([f"**Tenant** {principal.tenant}"] if principal.tenant else []),
        *([f"**Started by session** {start.parent}"] if start.parent else []),
    ]
    return "  \n".join(lines)
