"""Sealed bodies: what was once written opens for ever, and only as it was written."""

from __future__ import annotations

import asyncpg
import pytest

from holdfast_ledger.errors import ContentAltered
from holdfast_ledger.sealing import SessionKey, is_sealed

KEY = SessionKey(session_id="trip-1", key_id="0123456789abcdef", secret=bytes(range(32)))
PLACE, SAID = "entry/fact", b'{"to":"Zanzibar"}'
OPEN_PART = b'{"rule":"tier"}'

# These values are never changed, only added to.
HEAD = "0123456789abcdeffc77c049349e9c0b1fa5c16a5522ff8de1daca52d79dd989b00fc9c02b3dfadf6465666768696a6b6c6d6e6f"
GOLDEN = {
    "sealed": f"ff484601{HEAD}dd240552c1eef82d81ee7c2dae2a61aadb41ce55e964647c00036f0fb0f08c4985",
    "with an open part": f"ff484602{HEAD}0000000f{OPEN_PART.hex()}"
    "dd240552c1eef82d81ee7c2dae2a61aadbda9db45263fbd5e6a6840c5832757949",
}


@pytest.mark.parametrize("body", [bytes.fromhex(each) for each in GOLDEN.values()], ids=list(GOLDEN))
def test_a_golden_body_opens_and_no_byte_of_it_can_be_another(body: bytes) -> None:
    assert is_sealed(body)
    assert KEY.open(PLACE, body) == SAID
    for at in range(len(body)):
        altered = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        with pytest.raises(ContentAltered):
            KEY.open(PLACE, altered)


async def test_postgres_reads_of_a_sealed_body_its_key_and_its_open_part(owner: asyncpg.Connection) -> None:
    statement = "SELECT holdfast.sealed_by($1), audit.open_part($1)"
    rows = [await owner.fetchrow(statement, bytes.fromhex(body)) for body in GOLDEN.values()]
    in_clear = await owner.fetchrow(statement, SAID)

    assert [tuple(row) for row in rows if row] == [(KEY.key_id, None), (KEY.key_id, OPEN_PART)]
    assert in_clear is not None
    assert tuple(in_clear) == (None, None)
