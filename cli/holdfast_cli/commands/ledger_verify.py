"""`ledger verify`: the proof that nobody edited the record, from the database or from an export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast_cli.app import App
from holdfast_cli.commanding import command, pass_app
from holdfast_cli.exits import Exit, Failure
from holdfast_cli.finding import find_session, reader_of

if TYPE_CHECKING:
    from holdfast_ledger.chain import Verdict
    from holdfast_ledger.checkpoints import Advance, Checkpoint
    from holdfast_ledger.signing import TrustedKeys
    from holdfast_workers.comparison import Comparison

BAD = "`session_id`, `ok`, `entries`, `problem`, `bad_seq` (the first bad entry or checkpoint; null where none is)"

ONE_OF = "Verify one of SESSION, --all and --export FILE; only a database is held against Temporal."
EXPORT = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True, kw_only=True)
class Since:
    """From which checkpoint on, and the copy of the log that somebody kept, where that was given."""

    number: int = 0
    held: Sequence[tuple[Checkpoint, list[Advance]]] = ()


@command(
    "verify",
    examples=(
        "holdfast ledger verify",
        "holdfast ledger verify 0198a7c2",
        "holdfast ledger verify --since checkpoints.jsonl",
        "holdfast ledger verify --all --against-temporal --json",
        "holdfast ledger verify --export session.jsonl --key checkpoint-public.pem",
    ),
    fields={
        "ok": "whether nothing is wrong",
        "sessions": "chains looked at",
        "entries": "entries looked at",
        "archived": "entries that are in archives' files instead",
        "covered": "entries that a checkpoint vouches for",
        "checkpoints": "checkpoints looked at",
        "signed": "whether their signatures were verified: a key for it is known",
        "bad": f"what is not whole, sessions, `@checkpoints`, `@archives` or `@guards`: {BAD}",
        "compared": "sessions held against Temporal's history; null without --against-temporal",
        "expired": "sessions Temporal keeps nothing of any more; null without --against-temporal",
    },
)
@click.argument("session", required=False)
@click.option("--all", "every", is_flag=True, help="All sessions; the same as no SESSION.")
@click.option("--export", type=EXPORT, help="An export; no server.")
@click.option("--since", metavar="CHECKPOINT", help="A checkpoint's number, or the copy of the log you kept.")
@click.option("--against-temporal", is_flag=True, help="Also hold it against Temporal's history, while retained.")
@click.option(
    "--archives", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where archives' files are."
)
@click.option("--key", "keys", multiple=True, metavar="FILE", help="A public key that may sign; repeatable.")
@pass_app
def verify(
    app: App,
    session: str | None,
    every: bool,
    export: Path | None,
    since: str | None,
    against_temporal: bool,
    archives: Path | None,
    keys: tuple[str, ...],
) -> int:
    """Recompute the hash chain of SESSION, of all sessions, or of an export. Exit code 1 if anything is wrong.

    Names the first bad entry: changed, moved, added or lost. Checkpoints show sessions that were dropped, cut or
    written anew; the triggers and functions that guard the record are looked at, too.

    With --since a number, entries before that checkpoint are not read again. With --since a file, the database must
    hold every checkpoint of it: this finds a database that was put back to an older state. With --archives, every
    archive's file must be there as it was written.
    """
    if (session and every) or (export and (session or every or against_temporal or archives)):
        raise Failure(ONE_OF, Exit.USAGE)
    from holdfast_workers.checkpoints import trusted_keys

    trusted = trusted_keys(app.settings, *keys)
    base, broken = since_of(since, trusted)
    if export:
        verdicts = [verify_file(export, trusted, base)]
    else:
        verdicts = app.run(verify_database(app, session, trusted, base, archives))
    compared = app.run(compare_all(app, sessions_of(verdicts))) if against_temporal else []
    return tell(app, [*broken, *verdicts], compared if against_temporal else None, signed=bool(trusted))


def tell(app: App, verdicts: list[Verdict], compared: list[Comparison] | None, *, signed: bool) -> int:
    bad = [bad_fields(verdict) for verdict in verdicts if not verdict.ok]
    bad += [lacking(comparison) for comparison in compared or () if comparison.problem]
    sessions = sessions_of(verdicts)
    log = [verdict for verdict in verdicts if verdict.session_id == "@checkpoints"]
    held = sum(comparison.compared for comparison in compared or ())
    fields = {
        "ok": not bad,
        "sessions": len(sessions),
        "entries": sum(verdict.entries for verdict in sessions),
        "archived": sum(verdict.archived for verdict in sessions),
        "covered": sum(verdict.covered for verdict in sessions),
        "checkpoints": sum(verdict.entries for verdict in log),
        "signed": signed,
        "bad": bad,
        "compared": held if compared is not None else None,
        "expired": len(compared) - held if compared is not None else None,
    }
    lines = [f"{each['session_id']}: {each['problem']}" for each in bad]
    app.out.one(fields, "\n".join([*lines, summary(fields)]), quiet="broken" if bad else "whole")
    return Exit.FAILED if bad else Exit.DONE


def summary(fields: dict[str, Any]) -> str:
    """The last line for a person."""
    said = f"{fields['sessions']} sessions, {fields['entries']} entries"
    if fields["archived"]:
        said += f" and {fields['archived']} archived"
    said += f", {fields['checkpoints']} checkpoints: "
    said += f"{len(fields['bad'])} broken." if fields["bad"] else "whole."
    if not fields["signed"]:
        said += " No key is known, so no signature was verified (--key FILE)."
    if fields["compared"] is not None:
        said += f" Compared with Temporal: {fields['compared']}; expired, not compared: {fields['expired']}."
    return said


def sessions_of(verdicts: list[Verdict]) -> list[Verdict]:
    """Those of chains, `@operations` among them; without those of the ledger as a whole."""
    return [verdict for verdict in verdicts if verdict.session_id not in ("@checkpoints", "@archives", "@guards")]


def bad_fields(verdict: Verdict) -> dict[str, Any]:
    told = asdict(verdict)
    return {"ok": False, **{name: told[name] for name in ("session_id", "entries", "problem", "bad_seq")}}


def lacking(comparison: Comparison) -> dict[str, Any]:
    """A session whose ledger lacks something, as the fields of a verdict."""
    return {
        "session_id": comparison.session_id,
        "ok": False,
        "entries": comparison.turns + comparison.calls,
        "problem": comparison.problem,
        "bad_seq": None,
    }


def since_of(since: str | None, trusted: TrustedKeys) -> tuple[Since, list[Verdict]]:
    """Where to begin, and the verdict on the copy that was given, where that is not whole itself."""
    if since is None:
        return Since(), []
    if since.isdecimal():
        return Since(number=int(since)), []
    from holdfast_ledger.export import read_checkpoints, verify_export

    file = Path(since)
    if not file.is_file():
        raise Failure(f"`{since}` is neither a checkpoint's number nor a file.", Exit.USAGE)
    lines = file.read_text(encoding="utf-8").splitlines()
    held = read_checkpoints(lines)
    verdict = verify_export(lines, trusted)
    return Since(number=max((one.number for one, _ in held), default=0), held=held), [] if verdict.ok else [verdict]


def verify_file(file: Path, trusted: TrustedKeys, base: Since) -> Verdict:
    from holdfast_ledger.export import verify_export

    with file.open(encoding="utf-8") as lines:
        return verify_export(lines, trusted, held=base.held)


async def verify_database(
    app: App, session: str | None, trusted: TrustedKeys, base: Since, archives: Path | None
) -> list[Verdict]:
    from holdfast_ledger.archive import verify_archive_files
    from holdfast_ledger.verify import (
        verify_all,
        verify_archives,
        verify_checkpoints,
        verify_guards,
        verify_session,
    )

    async with app.ledger() as opened:
        database = opened.database
        held = [checkpoint for checkpoint, _ in base.held]
        verdicts = [
            await verify_guards(database),
            await verify_checkpoints(database, trusted, held=held, at_least=base.number),
            await verify_archives(database),
        ]
        if archives:
            verdicts += await verify_archive_files(database, archives, trusted)
        if session:
            found = await find_session(opened, session)
            return [*verdicts, await verify_session(database, found, since=base.number)]
        return [*verdicts, *[verdict async for verdict in verify_all(database, since=base.number)]]


async def compare_all(app: App, verdicts: list[Verdict]) -> list[Comparison]:
    from holdfast_workers.comparison import compare

    async with app.client() as client:
        reader = reader_of(client.ledger)
        return [await compare(client.temporal, reader, verdict.session_id) for verdict in verdicts]
