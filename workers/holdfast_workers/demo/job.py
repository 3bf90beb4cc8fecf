"""The demo's job: a session, a worker killed while one of its writes runs, and a refund that a person allows.

The kill is certain, not lucky: the services were told to carry out the first write at once and to hold its answer
back, and the worker dies as soon as their log shows that it was. The effect has landed and nobody knows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from holdfast.errors import HoldfastError
from holdfast.messages import Principal, SessionResult
from holdfast.states import SessionStatus
from holdfast_ledger.reading import Reader
from holdfast_ledger.views import Approval, Effect
from holdfast_workers.client import Holdfast
from holdfast_workers.demo.desk import Desk
from holdfast_workers.demo.parts import AGENT, Parts
from holdfast_workers.stack.processes import ProcessIdentity

MESSAGE = "Move booking TRV-1042 to the next morning, refund the difference and tell the customer."
FAILING = (
    "Move booking TRV-1042 and its hotel to the next morning, refund the difference and tell the customer. "
    "If the refund fails, undo all of it."
)
"""Where the payment is made to fail."""
LABELS = {"started_by": "holdfast demo"}
APPROVED = "refund"
"""The one tool the demo allows in a person's place: its message asks for it."""
APPROVE_AFTER_S = 1.0
"""Long enough to be seen waiting, as it would for a person."""
LOOK_EVERY_S = 0.05
EARLIER_WITHIN_S = 20.0
SESSION_WITHIN_S = 300.0
"""Claude thinks for a while; the scripted model needs a tenth of this."""

T = TypeVar("T")
Tell = Callable[[str], None]
Paste = Callable[[str, str, str], str]
"""The command line that approves by signal, from session id, call and digest."""


class NeedsPerson(HoldfastError):
    """The session waits for a decision that the demo does not take in a person's place."""

    code = "waiting"

    def __init__(self, approval: Approval) -> None:
        super().__init__(
            f"The session waits for a person: {approval.call} `{approval.tool}` {approval.preview}. "
            f"The demo allows `{APPROVED}` once and nothing else."
        )
        self.approval = approval


class TooSlow(HoldfastError):
    """The session did not end in time."""

    code = "failed"


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A worker that was killed while it waited for the answer to `effect`."""

    worker: ProcessIdentity
    effect: Effect


@dataclass(kw_only=True)
class Job:
    """One run of the demo's session. Make it with `start`, then `run` it to its end."""

    client: Holdfast
    desk: Desk
    parts: Parts
    session_id: str
    since: int
    """Where the services' log stood before."""
    by: str
    tell: Tell
    paste: Paste
    refund_asked: bool
    """Whether the message is the demo's own."""
    fail_payment: bool = False
    """The payment service refuses the refund; then no worker is killed."""
    armed_at: int
    """Where the services' log stood when they were told to stall the next write."""
    kills: list[Kill] = field(default_factory=list)

    @classmethod
    async def start(
        cls,
        client: Holdfast,
        desk: Desk,
        parts: Parts,
        message: str | None,
        *,
        fail_payment: bool = False,
        by: str,
        tell: Tell,
        paste: Paste,
    ) -> Job:
        """Prepare the services and start the session. `message`: None for the demo's own."""
        await abort_earlier(client, by, tell)
        since = await desk.prepare()
        await (desk.refuse_refunds() if fail_payment else desk.stall_next_write())
        asked = message or (FAILING if fail_payment else MESSAGE)
        principal = Principal(requested_by=by, labels=LABELS)
        begun = await client.start(asked, agent=AGENT, principal=principal, close_when_idle=True)
        return cls(
            client=client,
            desk=desk,
            parts=parts,
            session_id=begun.session_id,
            since=since,
            by=by,
            tell=tell,
            paste=paste,
            refund_asked=asked in (MESSAGE, FAILING),
            fail_payment=fail_payment,
            armed_at=since,
        )

    @property
    def reader(self) -> Reader:
        return self.client.ledger.reader

    async def run(self) -> SessionResult:
        """Kill, approve, and wait for the end of the session. Raises `NeedsPerson`, `TooSlow`."""
        result = asyncio.create_task(self.client.result(self.session_id))
        meanwhile = [asyncio.create_task(self._approve())]
        if not self.fail_payment:
            meanwhile.append(asyncio.create_task(self._kill_during_a_write()))
        deadline = asyncio.get_running_loop().time() + SESSION_WITHIN_S
        try:
            while not result.done():
                left = deadline - asyncio.get_running_loop().time()
                waiting = {result, *(one for one in meanwhile if not one.done())}
                done, _ = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                for one in done - {result}:
                    one.result()  # raises what stopped it
                if not done:
                    raise TooSlow(f"The session {self.session_id} did not end within {SESSION_WITHIN_S:g} s.")
            return result.result()
        finally:
            for task in (result, *meanwhile):
                task.cancel()
            await asyncio.gather(result, *meanwhile, return_exceptions=True)

    async def _kill_during_a_write(self) -> None:
        effect = await until(self._landed)
        killed = self.parts.kill_worker()
        if killed is None:
            self.tell("The worker was gone before it could be killed.")
            return
        self.kills.append(Kill(worker=killed, effect=effect))
        self.tell(
            f"kill -9 {killed.pid}: the worker died while {effect.call} {effect.tool} ran. "
            "The services have carried it out; their answer is lost, and nobody here knows."
        )
        self.tell("Nobody may touch the call until the dead worker's lease and heartbeat have run out: 15 s.")
        new = await until(lambda: self._worker_after(killed))
        self.tell(f"A new worker runs as pid {new.pid}.")
        await until(lambda: self._attempted_after(effect))
        self.tell(f"It takes {effect.call} {effect.tool} over and sends the same key again.")

    async def _landed(self) -> Effect | None:
        """The write that the services carried out and keep silent about, once there is one."""
        writes = [one for one in await self.desk.log(since=self.armed_at) if one.outcome != "read"]
        if not writes:
            return None
        for effect in await self.reader.effects(session_id=self.session_id, kind="call"):
            landed = writes[0].outcome == "carried_out" and effect.effect_id == writes[0].idempotency_key
            if landed and effect.settled_at is None:
                return effect
        # The stall met a refusal, or another session: wait for the next write.
        self.armed_at = writes[0].seq
        await self.desk.stall_next_write()
        return None

    async def _worker_after(self, killed: ProcessIdentity) -> ProcessIdentity | None:
        worker = self.parts.worker()
        return worker if worker and worker.pid != killed.pid else None

    async def _attempted_after(self, effect: Effect) -> bool:
        return (await self.reader.effect(effect.effect_id)).attempts_used > effect.attempts_used

    async def _approve(self) -> None:
        """Send the approval as anybody with Temporal's own command could."""
        approved: set[tuple[str, str]] = set()
        handle = self.client.temporal.get_workflow_handle(self.session_id)
        while True:
            for asked in await self.reader.approvals(session_id=self.session_id):
                if (asked.call, asked.digest) in approved:
                    continue  # on its way
                if asked.tool != APPROVED or approved:
                    raise NeedsPerson(asked)
                approved.add((asked.call, asked.digest))
                await asyncio.sleep(APPROVE_AFTER_S)
                self.tell("The approval goes out as a signal, as from this line:")
                self.tell("  " + self.paste(self.session_id, asked.call, asked.digest))
                payload = {"call": asked.call, "digest": asked.digest, "by": self.by}
                await handle.signal("approve", payload)
            await asyncio.sleep(LOOK_EVERY_S)


async def until(ask: Callable[[], Awaitable[T | None]]) -> T:
    """Wait for the first truthy answer."""
    while True:
        if answer := await ask():
            return answer
        await asyncio.sleep(LOOK_EVERY_S)


async def abort_earlier(client: Holdfast, by: str, tell: Tell) -> None:
    """End what an interrupted demo left open, before the services are put back as they were."""
    reader = client.ledger.reader
    unfinished = [status for status in SessionStatus if not status.ended]
    for earlier in await reader.sessions(agent=AGENT, labels=LABELS, statuses=unfinished):
        tell(f"An earlier demo was interrupted; its session {earlier.id} is aborted first.")
        with contextlib.suppress(TimeoutError, HoldfastError):
            await client.abort(earlier.id, by=by, reason="another demo starts")
            await asyncio.wait_for(client.result(earlier.id), EARLIER_WITHIN_S)
