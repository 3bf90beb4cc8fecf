"""Following a session until it ends, or is where the follower waits for it to be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Literal, cast

from holdfast.errors import HoldfastError
from holdfast.states import SessionStatus
from holdfast_cli.app import App
from holdfast_cli.deciding import decide_lines
from holdfast_cli.exits import Exit, Failure, exit_for
from holdfast_cli.finding import note_reading, reader_of
from holdfast_cli.following.events import Event
from holdfast_cli.following.translate import Translator
from holdfast_cli.following.views import View, view_of

if TYPE_CHECKING:
    from holdfast.messages import SessionResult
    from holdfast_ledger.store import Ledger
    from holdfast_ledger.views import Session
    from holdfast_ledger.watching import Told, WatchEvent
    from holdfast_workers.client import Holdfast
    from holdfast_workers.whereabouts import Whereabouts

Until = Literal["end", "idle", "waiting"]

LEDGER_LAGS_S = 3.0
"""How long the ledger may take to tell of an end that Temporal already knows."""
QUIET_S = 5.0
"""How long a session may stay unopened before the follower wonders."""
TEMPORAL_AGAIN_S = 1.0
"""How often to try a Temporal that is away."""
LOOK_FIRST_S, LOOK_LAST_S = 0.03, 1.0
"""How soon to look again whether the session has taken up what it was sent, and how rarely after a while."""
MOVES = frozenset(
    {
        "model_turn",
        "saga_closed",
        "request_closed",
        "session_status",
        "session_closed",
        "approval_asked",
        "approval_decided",
        "question_asked",
        "command_received",
    }
)
"""Entries after which the session's status may be another one."""
EXITS = {
    SessionStatus.COMPLETED: Exit.DONE,
    SessionStatus.FAILED: Exit.FAILED,
    SessionStatus.ABORTED: Exit.FAILED,
    SessionStatus.WAITING: Exit.WAITING,
    SessionStatus.HELD: Exit.HELD,
}


def follow(app: App, session_id: str, until: Until, *, after: int = 0, awaited: str | None = None) -> int:
    """Show the session live; returns the exit code its status means.

    Args:
        until: `end`; `idle` also returns when it waits for its next message, `waiting` also for a person.
        after: number of the last ledger entry not to be shown.
        awaited: digest of a message that must have been taken before `idle` counts.
    """
    view = view_of(app.out, lambda session, call: decide_lines(app, session, call))
    again = app.again(f"attach {session_id}")
    try:
        return app.run(Follower(app, session_id, until, view, awaited).run(after))
    except KeyboardInterrupt:
        view.close()
        app.out.say(f"\nDetached; the session goes on. Follow it again with `{again}`.")
        return Exit.INTERRUPTED
    except HoldfastError as error:
        if exit_for(error.code) is not Exit.UNREACHABLE:
            raise
        raise Failure(f"{error} Nothing is lost; follow it again with `{again}`.", Exit.UNREACHABLE) from error
    finally:
        view.close()


class Follower:
    """One follower of one session."""

    def __init__(self, app: App, session_id: str, until: Until, view: View, awaited: str | None) -> None:
        self._app = app
        self._session_id = session_id
        self._view = view
        self._awaited = awaited
        self._client: Holdfast | None = None
        self._temporal_answered = asyncio.Event()
        self._looks_at_each = False
        self._stops = {status for status in SessionStatus if status.ended}
        if until in ("idle", "waiting"):
            self._stops.add(SessionStatus.IDLE)
        if until == "waiting":
            self._stops |= {SessionStatus.WAITING, SessionStatus.HELD}

    async def run(self, after: int) -> int:
        from holdfast_ledger.watching import Patience

        self._patience = Patience(away=lambda error: self._note(f"{error} Waiting for it to come back."))
        async with self._app.ledger() as ledger:
            self._reader = reader_of(ledger)
            await note_reading(ledger, [self._session_id], "attach")
            self._translator = Translator(self._reader, self._session_id)
            watching = asyncio.create_task(self._watch(ledger, after))
            ending = asyncio.create_task(self._temporal_ends())
            hinting = asyncio.create_task(self._hint())
            try:
                await asyncio.wait({watching, ending}, return_when=asyncio.FIRST_COMPLETED)
                if not watching.done() and (await self._session()).first_run_id is not None:
                    await asyncio.wait({watching}, timeout=LEDGER_LAGS_S)
                # A session that was terminated, or refused at its opening, tells nothing to the ledger.
                if watching.done():
                    return watching.result()
                result = ending.result()
                return await self._end(await self._session(), SessionStatus(result.status), result.reason)
            finally:
                for task in (watching, ending, hinting):
                    task.cancel()
                await asyncio.wait({watching, ending, hinting})

    async def _watch(self, ledger: Ledger, after: int) -> int:
        from holdfast_ledger.watching import Told

        if (code := await self._stopped(after)) is not None:
            return code
        watched = ledger.watch(self._session_id, after=after, patience=self._patience)
        watched = cast("AsyncGenerator[WatchEvent]", watched)
        async with aclosing(watched) as happenings:
            async for happened in happenings:
                for event in await self._patience.ask(lambda: self._translator.events(happened)):  # noqa: B023 - awaited here
                    self._view.show(event)
                if not isinstance(happened, Told):
                    continue
                self._recognise(happened)
                if happened.entry.kind not in MOVES and not self._looks_at_each:
                    continue
                if (code := await self._stopped(happened.entry.seq)) is not None:
                    return code
        raise AssertionError("watching has no end of its own")

    def _recognise(self, told: Told) -> None:
        entry = told.entry
        if entry.kind == "message_received" and entry.body and entry.body.get("digest") == self._awaited:
            self._awaited = None

    async def _stopped(self, seen: int) -> int | None:
        """The exit code if the session is where the follower leaves, and all of it up to there is shown.

        Waits while something was sent to the session that it has not taken up: its status is from before that.
        """
        self._looks_at_each = False
        pause, wondering = LOOK_FIRST_S, asyncio.get_running_loop().time() + QUIET_S
        while self._may_leave(await self._session()):
            found = await self._whereabouts()
            session = await self._session()  # the ledger may have been told meanwhile
            if await self._patience.ask(lambda: self._reader.timeline(self._session_id, after=seen, limit=1)):
                self._looks_at_each = True  # it may stand here, once that is shown
                return None
            status = session.status if session.status.ended or not found else found.standing(session.status)
            if status in self._stops:
                return await self._end(session, status, session.status_reason if status is session.status else None)
            if found and found.untaken and asyncio.get_running_loop().time() > wondering:
                wondering = float("inf")
                self._note("No worker has taken up yet what the session was sent; is one running?")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LOOK_LAST_S)
        return None

    def _may_leave(self, session: Session) -> bool:
        return session.status in self._stops and (not self._awaited or session.status.ended)

    async def _whereabouts(self) -> Whereabouts | None:
        """Where Temporal has the session, once it answers; None where it has no such session."""
        from holdfast_workers.temporal import TemporalUnavailable
        from holdfast_workers.whereabouts import whereabouts

        if (await self._session()).status.ended:
            return None  # reading what is over needs no Temporal
        while True:
            await self._temporal_answered.wait()
            if self._client is None:
                return None
            with suppress(TemporalUnavailable):
                return await whereabouts(self._client.temporal, self._session_id)
            await asyncio.sleep(TEMPORAL_AGAIN_S)

    async def _hint(self) -> None:
        """Say it once where nothing happens because nobody works."""
        await asyncio.sleep(QUIET_S)
        session = await self._session()
        if session.first_run_id is None:
            worker = self._app.again("worker start")
            self._app.out.say(f"No worker has opened the session yet; is one running? `{worker}` starts one.")

    async def _session(self) -> Session:
        return await self._patience.ask(lambda: self._reader.session(self._session_id))

    async def _temporal_ends(self) -> SessionResult:
        """Wait for the workflow's end; for ever where Temporal does not know it."""
        from holdfast_ledger.errors import LedgerUnavailable
        from holdfast_workers.temporal import TemporalUnavailable, connect_options

        told = False
        while True:
            try:
                async with self._app.client() as self._client:
                    told = False
                    self._temporal_answered.set()
                    return await self._client.result(self._session_id)
            except TemporalUnavailable:
                self._temporal_answered.clear()
                address = connect_options(self._app.settings.temporal)["target_host"]
                if not told:
                    self._note(f"Temporal at {address} does not answer; the session goes on when it is back.")
                told = True
            except LedgerUnavailable:
                pass  # whoever watches the ledger tells
            except HoldfastError:
                self._client = None  # it does not know the session
                self._temporal_answered.set()
                await asyncio.Event().wait()
            await asyncio.sleep(TEMPORAL_AGAIN_S)

    def _note(self, text: str) -> None:
        self._view.show(Event("note", self._session_id, {"text": text}))

    async def _end(self, session: Session, status: SessionStatus, reason: str | None) -> int:
        """Show how it stands, and say with which code to leave."""
        fields = {
            "status": status,
            "reason": reason or "",
            "answer": self._translator.answer,
            "turns": session.turns,
            "calls": session.calls,
            "usd": session.usd,
        }
        self._view.show(Event("end", self._session_id, fields))
        return EXITS.get(status, Exit.DONE)
