"""Retention: sessions that ended go to files that verify on their own, and leave the end of their chain behind.

A session leaves the database only when its file is written, synced, read back and verified. What the file holds
beside the chain (effects, transcript) is covered by the file's digest, which is told in the chain `@operations`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import asyncpg

from holdfast_ledger import parameters
from holdfast_ledger.chain import Chain, Verdict
from holdfast_ledger.database import Database, named_sql
from holdfast_ledger.errors import ArchiveRefused, BadExport, translated
from holdfast_ledger.export import export_session, verify_export
from holdfast_ledger.signing import TrustedKeys
from holdfast_ledger.verify import ARCHIVES, archive_told, read_chain


@dataclass(frozen=True, kw_only=True)
class Archived:
    session_id: str
    file: str
    entries: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A session older than was asked for that stays, and why."""

    session_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ArchiveReport:
    archived: tuple[Archived, ...]
    kept: tuple[Kept, ...]
    partitions: tuple[str, ...]
    """Partitions that were left without entries, and removed."""


async def archive(
    database: Database,
    owner: Database,
    directory: Path,
    *,
    before: datetime,
    by: str,
    on_progress: Callable[[Archived], None] = lambda _: None,
) -> ArchiveReport:
    """Archive what ended before then. Each session on its own: what was done stays done where a later one fails.

    `owner` connects as the login that migrates. Raises `ArchiveRefused`, `LedgerUnavailable`, `OSError`.
    """
    done: list[Archived] = []
    kept: list[Kept] = []
    for row in await as_owner(owner, "archivable", before):
        if row["why_not"]:
            kept.append(Kept(session_id=row["id"], reason=row["why_not"]))
            continue
        try:
            one = await archive_session(database, owner, directory, row["id"], by=by)
        except ArchiveRefused as error:  # it went on while it was written
            kept.append(Kept(session_id=row["id"], reason=str(error)))
            continue
        on_progress(one)
        done.append(one)
    dropped = await as_owner(owner, "drop_empty_partitions")
    return ArchiveReport(archived=tuple(done), kept=tuple(kept), partitions=tuple(row[0] for row in dropped))


async def archive_session(
    database: Database, owner: Database, directory: Path, session_id: str, *, by: str
) -> Archived:
    """Raises `ArchiveRefused` where the session has not ended, a saga of it is not closed, or it went on."""
    chain, _ = await read_chain(database, session_id)
    lines = [line async for line in export_session(database, session_id)]
    for row in await database.rows("session_records", chain.session_key):
        lines.append(json.dumps({"record": row["record"], "row": json.loads(row["row"])}))
    file = directory / f"{chain.session_key}.jsonl"
    sha256 = await asyncio.to_thread(write_verified, file, lines, chain)
    told = {
        "id": f"archive/{chain.session_key}",
        "session_id": session_id,
        "seq": chain.seq,
        "file": file.name,
        "file_digest": sha256,
        "by": by,
    }
    body = archive_told(session_id, chain.seq, chain.head, file.name, sha256)
    await as_owner(owner, "archive_session", parameters.clear_json(told), chain.head, body)
    return Archived(session_id=session_id, file=file.name, entries=chain.seq, sha256=sha256)


async def as_owner(owner: Database, statement: str, *arguments: object) -> list[asyncpg.Record]:
    async with owner.transaction() as connection:
        with translated(owner.where):
            await connection.execute(named_sql()["wait_for_tables"])
            await connection.execute(named_sql()["become_owner"])
            return await connection.fetch(named_sql()[statement], *arguments)


def write_verified(file: Path, lines: list[str], chain: Chain) -> str:
    """Write the file in one step, read it back and verify it; its SHA-256. Raises `ArchiveRefused`, `OSError`."""
    new = file.with_suffix(".new")
    with new.open("w", encoding="utf-8") as opened:
        opened.writelines(f"{line}\n" for line in lines)
        opened.flush()
        os.fsync(opened.fileno())
    with new.open(encoding="utf-8") as opened:
        verdict = verify_export(opened)
    if not verdict.ok or verdict.entries != chain.seq:
        problem = verdict.problem or "it went on while it was written"
        raise ArchiveRefused(f"The session `{chain.session_id}` cannot be archived: {problem}.")
    new.replace(file)
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the name, too, must outlive a crash
    finally:
        os.close(directory)
    return digest_of(file)


def digest_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


async def verify_archive_files(database: Database, directory: Path, trusted: TrustedKeys) -> list[Verdict]:
    """Every archive on record has its file there, byte by byte, and the file is whole; only what is wrong."""
    rows = await database.rows("archived_files")
    return list(
        _wrong_files([(row["session_id"], directory / row["file"], row["file_digest"]) for row in rows], trusted)
    )


def _wrong_files(files: list[tuple[str, Path, str]], trusted: TrustedKeys) -> Iterator[Verdict]:
    for session_id, file, sha256 in files:
        problem = _wrong_file(file, sha256, trusted)
        if problem:
            yield Verdict(
                session_id=ARCHIVES, entries=len(files), problem=f"the archive of `{session_id}`: {problem}"
            )


def _wrong_file(file: Path, sha256: str, trusted: TrustedKeys) -> str | None:
    if not file.is_file():
        return f"`{file.name}` is missing"
    if digest_of(file) != sha256:
        return f"`{file.name}` is not the file that was written"
    try:
        with file.open(encoding="utf-8") as opened:
            return verify_export(opened, trusted).problem
    except BadExport as error:
        return str(error)
