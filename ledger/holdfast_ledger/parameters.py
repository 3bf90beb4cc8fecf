"""From records to the parameters of the ledger's functions: clear columns as JSON, bodies as bytes.

Clear columns are text in Postgres, which refuses NUL and lone surrogates although models produce both; there
they become U+FFFD. Bodies keep every character, since canonical JSON escapes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from pydantic_core import to_jsonable_python

from holdfast import ids
from holdfast.facts import Fact
from holdfast_ledger import openly, places
from holdfast_ledger.sealing import Seal

_REFUSED = re.compile("[\x00\ud800-\udfff]")

# The fields of a fact's body that a projection (session, approval, effect) needs in clear.
_DETAIL = (
    "digest",
    "tool_use_id",
    "preview",
    "expires_at",
    "use_within",
    "decision",
    "by",
    "authenticated",
    "reason",
)
_TIMES = ("expires_at",)


def clear(text: str) -> str:
    """The text as a Postgres text column takes it."""
    return _REFUSED.sub("\ufffd", text)


def clear_json(values: Mapping[str, Any] | list[Any]) -> str:
    """JSON for a jsonb parameter; times and durations in forms that Postgres casts back exactly."""
    said = _JSON.encode(values)
    return _JSON.encode(_cleared(values)) if "\\u0000" in said or "\\ud" in said else said


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return f"{value // timedelta(microseconds=1)} microseconds"
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} has no form in a jsonb parameter")


_JSON = json.JSONEncoder(allow_nan=False, default=_plain)


def _cleared(value: Any) -> Any:
    """The same without what a text in Postgres refuses: only where an escape shows that some may be there."""
    if isinstance(value, str):
        return clear(value)
    if isinstance(value, Mapping):
        return {clear(str(key)): _cleared(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleared(item) for item in value]
    return value


def facts(outbox: Iterable[Fact], seal: Seal) -> tuple[str, list[bytes], list[bytes]]:
    """The three parameters of every function that takes facts: clear columns, digests, bodies."""
    told = list(outbox)
    columns = [_fact_columns(fact, seal) for fact in told]
    digests = [_fact_digest(fact, seal) for fact in told]
    bodies = [_fact_body(fact, seal, digest) for fact, digest in zip(told, digests, strict=True)]
    return clear_json(columns), digests, bodies


def _fact_columns(fact: Fact, seal: Seal) -> dict[str, Any]:
    columns = fact.model_dump(exclude={"body"}, exclude_none=True)
    detail = {name: fact.body[name] for name in _DETAIL if fact.body.get(name) is not None}
    if reason := detail.get("reason"):
        detail["reason"] = seal.seal_text(places.REASON, reason)
    if preview := detail.get("preview"):
        detail["preview"] = seal.seal_text(places.preview(fact.call, detail.get("digest")), preview)
    return {**columns, "detail": detail} if detail else columns


def _fact_body(fact: Fact, seal: Seal, digest: bytes) -> bytes:
    body = ids.canonical(to_jsonable_python(dict(fact.body)))
    return seal.seal(places.entry(fact.key), body, digest=digest, public=openly.of_fact(seal, fact))


def _fact_digest(fact: Fact, seal: Seal) -> bytes:
    """What makes two facts of one key the same: all they say but when, since a reset may say it again later."""
    body = {name: value for name, value in fact.body.items() if name not in _TIMES}
    said = fact.model_dump(mode="json", exclude={"at", "body"})
    return seal.digest(ids.canonical([said, to_jsonable_python(body)]))
