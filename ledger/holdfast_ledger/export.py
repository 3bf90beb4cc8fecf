"""A session's record as JSON lines: a header, then one entry a line. It verifies without a database.

Bodies are strings where they are text, so that a person can read them; `body_hex` holds any other.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from holdfast_ledger.database import Database
from holdfast_ledger.errors import BadExport, SessionMissing
from holdfast_ledger.verify import Chain, ChainEntry, Verdict, read_chains, verify_chain

FORMAT = "holdfast.ledger/1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = ("at", "recorded_at")
_BYTES = ("fact_digest", "prev", "hash")


async def export_session(database: Database, session_id: str) -> AsyncIterator[str]:
    """The lines, without line ends. Raises `SessionMissing`, `LedgerUnavailable`."""
    found = False
    async for chain, entries in read_chains(database, session_id):
        found = True
        yield _header(chain)
        for entry in entries:
            yield _line(entry)
    if not found:
        raise SessionMissing(f"There is no session `{session_id}`.")


def verify_export(lines: Iterable[str]) -> Verdict:
    """Recompute the chain of an export. Raises `BadExport` where it is not one."""
    numbered = enumerate(lines, start=1)
    chain = _chain(numbered)
    return verify_chain(chain, _entries(numbered))


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
    line: dict[str, Any] = {each.name: getattr(entry, each.name) for each in fields(entry)}
    for name in _TIMES:
        line[name] = (_EPOCH + timedelta(microseconds=line[name])).isoformat(timespec="microseconds")
    for name in _BYTES:
        line[name] = line[name].hex()
    try:
        line["body"] = entry.body.decode()
    except UnicodeDecodeError:
        del line["body"]
        line["body_hex"] = entry.body.hex()
    return json.dumps({name: value for name, value in line.items() if value is not None})


def _chain(numbered: Iterator[tuple[int, str]]) -> Chain:
    number, line = next(numbered, (1, ""))
    header = _parsed(number, line)
    if header.get("format") != FORMAT:
        raise BadExport(f"Line {number} is not the header of a ledger export (`format` must be `{FORMAT}`).")
    try:
        return Chain(
            session_id=header["session_id"],
            session_key=header["session_key"],
            seq=header["entries"],
            head=bytes.fromhex(header["head"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise BadExport(f"Line {number}: the header has no valid {error}.") from error


def _entries(numbered: Iterator[tuple[int, str]]) -> Iterator[ChainEntry]:
    for number, line in numbered:
        if not line.strip():
            continue
        columns = _parsed(number, line)
        try:
            yield _entry(columns)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise BadExport(f"Line {number} is not an entry of a ledger: {error}.") from error


def _entry(columns: dict[str, Any]) -> ChainEntry:
    for name in _TIMES:
        columns[name] = (datetime.fromisoformat(columns[name]) - _EPOCH) // timedelta(microseconds=1)
    for name in _BYTES:
        columns[name] = bytes.fromhex(columns[name])
    plain = columns.pop("body", None)
    encoded = columns.pop("body_hex", None)
    columns["body"] = plain.encode() if plain is not None else bytes.fromhex(encoded)
    return ChainEntry(**{each.name: None for each in fields(ChainEntry)} | columns)


def _parsed(number: int, line: str) -> dict[str, Any]:
    try:
        parsed = json.loads(line)
    except ValueError as error:
        raise BadExport(f"Line {number} is not JSON: {error}.") from error
    if not isinstance(parsed, dict):
        raise BadExport(f"Line {number} is not a JSON object.")
    return parsed
