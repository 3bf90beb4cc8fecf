"""An export carries the checkpoints that vouch for it, and contradicts them where it was edited."""

from __future__ import annotations

import json

from holdfast_ledger.chain import entry_hash
from holdfast_ledger.export import (
    export_session,
    parse_entry,
    read_checkpoints,
    verify_export,
)
from holdfast_ledger.signing import TrustedKeys, new_key
from tests.ledger.checkpoints.story import (
    TRUSTED,
    log_of,
    verdicts,
)
from tests.ledger.conftest import Conversation


async def test_an_export_carries_the_checkpoints_that_vouch_for_it(untouched: Conversation) -> None:
    lines = [line async for line in export_session(untouched.ledger.database, "trip-1")]
    verdict = verify_export(lines, TRUSTED)

    assert verdict == (await verdicts(untouched))["trip-1"]
    assert verdict.covered == verdict.entries
    assert "trip-2" not in "".join(lines)
    stranger = TrustedKeys.of_pem(new_key())
    assert "which is none of those trusted" in str(verify_export(lines, stranger).problem)


def rehashed(lines: list[str], change: str) -> list[str]:
    """An export whose entry 3 says something else, with every hash made to fit."""
    header, *rest = map(json.loads, lines)
    entries = [line for line in rest if "checkpoint" not in line]
    entries[2]["actor"] = change
    for number, line in enumerate(entries):
        if number:
            line["prev"] = entries[number - 1]["hash"]
        line["hash"] = entry_hash(parse_entry(dict(line))).hex()
    header["head"] = entries[-1]["hash"]
    return [json.dumps(line) for line in (header, *entries, *rest[len(entries) :])]


async def test_an_export_rewritten_with_all_its_hashes_is_found(untouched: Conversation) -> None:
    lines = [line async for line in export_session(untouched.ledger.database, "trip-1")]
    kept = read_checkpoints(await log_of(untouched))
    forged = rehashed(lines, "eve")

    assert "is not the one a checkpoint knows" in str(verify_export(forged, TRUSTED).problem)
    bare = [line for line in forged if not line.startswith('{"checkpoint"')]
    assert verify_export(bare, TRUSTED).ok  # nothing in it says otherwise; what was kept does
    assert "is not the one a checkpoint knows" in str(verify_export(bare, TRUSTED, held=kept).problem)


async def test_a_proof_of_another_place_is_found(untouched: Conversation) -> None:
    lines = [line async for line in export_session(untouched.ledger.database, "trip-1")]
    *before, last = lines
    for change in ({"index": 1}, {"proof": ["00" * 32]}):
        problem = verify_export([*before, json.dumps(json.loads(last) | change)], TRUSTED).problem
        assert "does not say that entry" in str(problem), change


async def test_an_edited_export_of_checkpoints_is_found(untouched: Conversation) -> None:
    lines = await log_of(untouched)
    assert verify_export(lines, TRUSTED).ok
    swapped = [lines[0], lines[2], lines[1]]
    assert verify_export(swapped, TRUSTED).problem == "checkpoint 1 is missing"
    assert "made over other sessions" in str(verify_export([*lines[:2], lines[2].replace("trip-1", "x")]).problem)
