"""Where a sealed body stands: its name is authenticated with it, so that no row passes for another.

Never change one: what was sealed under it would not open any more.
"""

from __future__ import annotations

from holdfast_ledger.sealing import Seal, is_sealed

REASON = "reason"
"""Why something was decided or ended, in words; the same text stands in several projections of one fact."""

_BY_ATTEMPT = frozenset({"outcome", "late"})
_GIVEN_UP = frozenset({"expired", "exhausted", "disabled"})


def content(digest: str) -> str:
    return f"content/{digest}"


def effect(column: str, effect_id: str) -> str:
    return f"effect/{effect_id}/{column}"


def attempt(column: str, effect_id: str, token: int) -> str:
    return f"attempt/{effect_id}/{token}/{column}"


def saga(column: str, saga_id: str) -> str:
    return f"saga/{saga_id}/{column}"


def preview(call: str | None, digest: str | None) -> str:
    """The arguments as an approver sees them; the digest is that of the arguments."""
    return f"preview/{call}/{digest}"


def chunk(turn: int, token: int, seq: int) -> str:
    return f"chunk/{turn}/{token}/{seq}"


def entry(fact_key: str) -> str:
    """The body of an entry. Some are the body of a row too, and stand under its name.

    An intent is sealed before its attempt has a number; a closing entry before its key has a time.
    """
    if fact_key.startswith("@closed/"):
        return "entry/@closed"
    if fact_key.startswith("@effect/"):
        _, effect_id, token, what, *_ = f"{fact_key}//".split("/")
        if what == "intent":
            return effect("authorization_body", effect_id)
        if what in _BY_ATTEMPT:
            return attempt("report", effect_id, int(token))
        if what in _GIVEN_UP:
            return effect("outcome", effect_id)
    return f"entry/{fact_key}"


def opened(seal: Seal, place: str, body: bytes) -> bytes:
    """A body that the ledger's own functions may have written, in clear. Raises as `Seal.open`."""
    return seal.open(place, body) if is_sealed(body) else body
