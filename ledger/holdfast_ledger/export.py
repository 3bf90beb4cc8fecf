"""A session's record as JSON lines: a header, one entry a line, then the checkpoints that vouch for it.

It verifies without a database. Bodies are strings where they are text, so that a person can read them; `body_hex`
holds any other.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from holdfast_ledger.chain import Chain, ChainCheck, ChainEntry, Point, Verdict
from holdfast_ledger.checkpointing import read_inclusions, read_log
from holdfast_ledger.checkpoints import LOG, Advance, Checkpoint, Inclusion, LogCheck, wrong_inclusion
from holdfast_ledger.database import Database
from holdfast_ledger.errors import BadExport
from holdfast_ledger.signing import TrustedKeys
from holdfast_ledger.verify import read_chain

FORMAT = "holdfast.ledger/1"
CHECKPOINTS_FORMAT = "holdfast.checkpoints/1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = ("at", "recorded_at")
_BYTES = ("fact_digest", "prev", "hash")
_CHECKPOINT_BYTES = ("prev", "root", "hash", "signature")
_NOTHING = dict.fromkeys(ChainEntry._fields)
_NO_KEYS = TrustedKeys()
_MALFORMED = (KeyError, ValueError, TypeError, AttributeError)

Numbered = Iterator[tuple[int, str]]


async def export_session(database: Database, session_id: str) -> AsyncIterator[str]:
    """The lines, without line ends. Raises `SessionMissing`, `LedgerUnavailable`."""
    chain, entries = await read_chain(database, session_id)
    yield _header(chain)
    for entry in entries:
        yield _line(entry)
    for inclusion in await read_inclusions(database, chain.session_key):
        yield json.dumps(_inclusion_fields(inclusion))


async def export_checkpoints(database: Database) -> AsyncIterator[str]:
    """The log of checkpoints with all they were made over, for somebody to keep elsewhere."""
    yield json.dumps({"format": CHECKPOINTS_FORMAT})
    async for checkpoint, advances in read_log(database):
        over = [[each.session_id, each.session_key, each.seq, each.head.hex()] for each in advances]
        yield json.dumps({**_checkpoint_fields(checkpoint), "over": over})


def verify_export(
    lines: Iterable[str], trusted: TrustedKeys = _NO_KEYS, *, held: Iterable[tuple[Checkpoint, list[Advance]]] = ()
) -> Verdict:
    """Recompute an export, of a session or of checkpoints. Raises `BadExport` where it is neither.

    `held`: checkpoints that somebody kept elsewhere; what they say of the session must hold too.
    """
    numbered = enumerate(lines, start=1)
    header = _parsed(*next(numbered, (1, "")))
    kept = list(held)
    if header.get("format") == CHECKPOINTS_FORMAT:
        return _verify_log(numbered, trusted, [checkpoint for checkpoint, _ in kept])
    chain = _chain(header)
    entries: list[ChainEntry] = []
    inclusions: list[Inclusion] = []
    for number, line in numbered:
        if line.strip():
            _sort_in(number, line, chain, entries, inclusions)
    claims = [each.advance for each in inclusions]
    claims += [each for _, advances in kept for each in advances if each.session_key == chain.session_key]
    check = ChainCheck(chain, claims=[Point(seq=each.seq, head=each.head) for each in claims])
    check.read(entries)
    verdict = check.verdict()
    wrong = next((problem for each in inclusions if (problem := wrong_inclusion(each, trusted))), None)
    if verdict.ok and wrong:
        return Verdict(session_id=chain.session_id, entries=len(entries), problem=wrong)
    return verdict


def read_checkpoints(lines: Iterable[str]) -> list[tuple[Checkpoint, list[Advance]]]:
    """The checkpoints of an export of checkpoints, as they stand there. Raises `BadExport`."""
    numbered = enumerate(lines, start=1)
    number, line = next(numbered, (1, ""))
    if _parsed(number, line).get("format") != CHECKPOINTS_FORMAT:
        raise BadExport(
            f"Line {number} is not the header of checkpoints (`format` must be `{CHECKPOINTS_FORMAT}`)."
        )
    return list(_log(numbered))


def _verify_log(numbered: Numbered, trusted: TrustedKeys, held: list[Checkpoint]) -> Verdict:
    check = LogCheck(trusted, held)
    for checkpoint, advances in _log(numbered):
        check.next(checkpoint, advances)
    check.finish()
    bad_seq, problem = check.bad or (None, None)
    return Verdict(session_id=LOG, entries=check.read, problem=problem, bad_seq=bad_seq)


def _log(numbered: Numbered) -> Iterator[tuple[Checkpoint, list[Advance]]]:
    for number, line in numbered:
        if not line.strip():
            continue
        fields = _parsed(number, line)
        try:
            advances = [
                Advance(session_id=of, session_key=key, seq=seq, head=bytes.fromhex(head))
                for of, key, seq, head in fields.pop("over")
            ]
            yield _checkpoint(fields), advances
        except _MALFORMED as error:
            raise BadExport(f"Line {number} is not a checkpoint: {error}.") from error


def _header(chain: Chain) -> str:
    return json.dumps(
        {
            "format": FORMAT,
            "session_id": chain.session_id,
            "session_key": chain.session_key,
            "entries": chain.seq,
            "head": chain.head.hex(),
        }
    )


def _line(entry: ChainEntry) -> str:
    line: dict[str, Any] = entry._asdict()
    for name in _TIMES:
        line[name] = _time(line[name])
    for name in _BYTES:
        line[name] = line[name].hex()
    try:
        line["body"] = entry.body.decode()
    except UnicodeDecodeError:
        del line["body"]
        line["body_hex"] = entry.body.hex()
    return json.dumps({name: value for name, value in line.items() if value is not None})


def _checkpoint_fields(checkpoint: Checkpoint) -> dict[str, Any]:
    fields = {name: getattr(checkpoint, name) for name in Checkpoint.__slots__}
    return {**fields, "at": _time(checkpoint.at), **{name: fields[name].hex() for name in _CHECKPOINT_BYTES}}


def _inclusion_fields(inclusion: Inclusion) -> dict[str, Any]:
    return {
        "checkpoint": _checkpoint_fields(inclusion.checkpoint),
        "seq": inclusion.advance.seq,
        "head": inclusion.advance.head.hex(),
        "index": inclusion.index,
        "proof": [sibling.hex() for sibling in inclusion.proof],
    }


def _sort_in(number: int, line: str, chain: Chain, entries: list[ChainEntry], inclusions: list[Inclusion]) -> None:
    fields = _parsed(number, line)
    try:
        if "record" in fields:
            return  # of an archive: what stands beside the chain
        if "checkpoint" in fields:
            inclusions.append(_inclusion(chain, fields))
        else:
            entries.append(parse_entry(fields))
    except _MALFORMED as error:
        raise BadExport(f"Line {number} is not an entry of a ledger: {error}.") from error


def _chain(header: dict[str, Any]) -> Chain:
    if header.get("format") != FORMAT:
        raise BadExport(f"Line 1 is not the header of a ledger export (`format` must be `{FORMAT}`).")
    try:
        return Chain(
            session_id=header["session_id"],
            session_key=header["session_key"],
            seq=header["entries"],
            head=bytes.fromhex(header["head"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise BadExport(f"Line 1: the header has no valid {error}.") from error


def parse_entry(columns: dict[str, Any]) -> ChainEntry:
    """The entry of a line; what it raises names what is wrong."""
    for name in _TIMES:
        columns[name] = _microseconds(columns[name])
    for name in _BYTES:
        columns[name] = bytes.fromhex(columns[name])
    plain = columns.pop("body", None)
    encoded = columns.pop("body_hex", None)
    columns["body"] = plain.encode() if plain is not None else bytes.fromhex(encoded)
    return ChainEntry(**{**_NOTHING, **columns})


def _inclusion(chain: Chain, fields: dict[str, Any]) -> Inclusion:
    return Inclusion(
        checkpoint=_checkpoint(fields["checkpoint"]),
        advance=Advance(
            session_id=chain.session_id,
            session_key=chain.session_key,
            seq=fields["seq"],
            head=bytes.fromhex(fields["head"]),
        ),
        index=fields["index"],
        proof=tuple(bytes.fromhex(sibling) for sibling in fields["proof"]),
    )


def _checkpoint(fields: dict[str, Any]) -> Checkpoint:
    told = {**fields, "at": _microseconds(fields["at"])}
    return Checkpoint(**{**told, **{name: bytes.fromhex(told[name]) for name in _CHECKPOINT_BYTES}})


def _time(microseconds: int) -> str:
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds")


def _microseconds(time: str) -> int:
    return (datetime.fromisoformat(time) - _EPOCH) // timedelta(microseconds=1)


def _parsed(number: int, line: str) -> dict[str, Any]:
    try:
        parsed = json.loads(line)
    except ValueError as error:
        raise BadExport(f"Line {number} is not JSON: {error}.") from error
    if not isinstance(parsed, dict):
        raise BadExport(f"Line {number} is not a JSON object.")
    return parsed
