"""Naming things by the beginning of their id, and times by how long ago they were."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from holdfast_cli.asking import user
from holdfast_cli.exits import Exit, Failure
from holdfast_cli.output import now

if TYPE_CHECKING:
    from holdfast_ledger.reading import Reader
    from holdfast_ledger.store import Ledger
    from holdfast_ledger.views import Approval

_AGO = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def reader_of(ledger: Ledger) -> Reader:
    return ledger.reader


async def told_of_reading(ledger: Ledger, session_id: str, command: str) -> str | None:
    """Record that contents are decrypted for this person, where they are; a notice where they are not here."""
    notices = []
    if archived := await ledger.reader.archived(session_id):
        notices.append(
            f"The session's record is {archived.notice}. `holdfast ledger verify --export FILE` reads it."
        )
    if erased := await ledger.reader.erased(session_id):
        notices.append(f"The session's contents were {erased.notice}: {erased.reason}.")
    if not notices:
        await note_reading(ledger, [session_id], command)
    return "\n".join(notices) or None


async def note_reading(ledger: Ledger, session_ids: Iterable[str], command: str) -> None:
    """Record, as one entry, that contents of these sessions are decrypted for this person, where they are."""
    from holdfast_ledger.privacy import note_contents_read
    from holdfast_ledger.sealing import SessionKey

    seals = await ledger.vault.of_all(session_ids)
    if read := [each for each, seal in seals.items() if isinstance(seal, SessionKey)]:
        await note_contents_read(ledger.database, read, by=user(), command=command)


async def find_session(ledger: Ledger, prefix: str) -> str:
    """The one session whose id begins so. Raises the ledger's `SessionMissing`, `AmbiguousId`."""
    return await reader_of(ledger).session_id(prefix)


async def last_entry(reader: Reader, session_id: str) -> int:
    """Number of the session's newest entry, 0 where there is none."""
    return max((entry.seq for entry in await reader.timeline(session_id)), default=0)


async def before_last_request(reader: Reader, session_id: str) -> int:
    """Number of the entry before the newest message: what a follower that comes late need not be shown."""
    messages = [entry.seq for entry in await reader.timeline(session_id) if entry.kind == "message_received"]
    return max(messages, default=1) - 1


async def taken_at(reader: Reader, session_id: str, message_id: str) -> int | None:
    """Number of the entry that tells of a message's arrival; None where it has not been taken yet."""
    for entry in await reader.timeline(session_id):
        if entry.kind == "message_received" and entry.body and entry.body.get("id") == message_id:
            return entry.seq
    return None


async def find_approval(ledger: Ledger, session_id: str, call: str | None) -> Approval:
    """The pending approval of a call; without a call the only one there is."""
    pending = await reader_of(ledger).approvals(session_id=session_id)
    if call is not None:
        for approval in pending:
            if approval.call == call:
                return approval
        raise Failure(await why_not_pending(ledger, session_id, call), Exit.MISSING)
    if not pending:
        raise Failure(f"Nothing in session {session_id} waits for a decision.", Exit.MISSING)
    if len(pending) > 1:
        calls = ", ".join(f"{approval.call} {approval.tool}" for approval in pending)
        raise Failure(f"More than one call waits; say which: {calls}.", Exit.USAGE)
    return pending[0]


async def why_not_pending(ledger: Ledger, session_id: str, call: str) -> str:
    """What became of a call that nobody needs to decide about."""
    asked = await reader_of(ledger).approvals(session_id=session_id, pending=False)
    decided = [approval for approval in asked if approval.call == call]
    if not decided:
        return f"No call `{call}` waits in session {session_id}; `holdfast approval list` shows what does."
    last = decided[-1]
    state = "approved and run" if last.state == "consumed" else last.state
    by = f" by {last.decided_by}" if last.decided_by else ""
    return f"Call {call} ({last.tool}) was {state}{by} already; nothing changed."


def parse_since(given: str | None) -> datetime | None:
    """`2h`, `3d`, or an ISO 8601 date or time, as an aware time. Raises `Failure`."""
    if given is None:
        return None
    if match := _AGO.fullmatch(given.strip()):
        return now() - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        raise Failure(f"`{given}` is no time: write `2h`, `3d`, or `2026-01-31T12:00`.", Exit.USAGE) from None
    return at.astimezone() if at.tzinfo is None else at
