"""A tool's return value as bytes: the whole for Postgres, and what of it the model is shown.

A result that is too big, of the wrong type or no JSON is marked, never an exception: the effect has happened.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from holdfast.ids import canonical, digest
from holdfast.tools import Tool
from holdfast_activities.redaction import Redactor, detectors

MAX_RESULT_BYTES = 16_000_000
"""Beyond this a result's head and tail are kept, not the whole."""
MAX_BINARY_BYTES = 4_000_000
SMALL = 1_000
"""Characters of plain values that are rendered in less time than it takes to hand them to a thread."""
_ANY: TypeAdapter[Any] = TypeAdapter(Any)


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """`result` is canonical JSON. `shown` is UTF-8 text for the model, where it differs from `result`."""

    result: bytes
    shown: bytes | None
    digest: str
    value: Any
    """The result as JSON values, for `undo_args`."""
    mark: str | None = None
    """What was wrong with it."""
    redacted: Mapping[str, int] = field(default_factory=dict)
    """How many secrets of which kind were cut out."""

    @property
    def evidence(self) -> dict[str, Any]:
        """What the ledger's fact of it tells."""
        marked = {"mark": self.mark} if self.mark else {}
        return {**marked, "redacted": dict(self.redacted)} if self.redacted else marked


async def rendered(declared: Tool, value: Any, *, call: str, cap: int, redactor: Redactor) -> Rendered:
    """See `render`; in a thread where it may take long."""

    def in_thread() -> Rendered:
        detectors()  # whose first use takes a third of a second
        return render(declared, value, call=call, cap=cap, redactor=redactor)

    if detectors.cache_info().currsize and _room_after(value, SMALL) >= 0:
        return render(declared, value, call=call, cap=cap, redactor=redactor)
    return await asyncio.to_thread(in_thread)


def render(declared: Tool, value: Any, *, call: str, cap: int, redactor: Redactor) -> Rendered:
    """Turn whatever a tool returned into a result, without secrets. Never raises for the value's sake.

    Args:
        call: the call's number, which the cut names for `read_result`.
        cap: characters of the result the model is shown.
    """
    cut: Mapping[str, int] = {}
    try:
        plain, mark = _plain(declared, value, redactor)
        plain, cut = redactor.redact(plain)
        body = canonical(plain)
    except Exception as error:  # the author's types run here too; the effect has happened whatever they raise
        plain, mark = None, f"the tool returned {_kind(value)}, which could not be read ({type(error).__name__})"
        body = canonical(plain)
    whole_digest = digest(body)
    if len(body) > MAX_RESULT_BYTES:
        mark = _also(
            mark, f"the result has {len(body)} bytes; only its head and tail are kept (sha256 {whole_digest})"
        )
        plain = _head_and_tail(_text(plain), MAX_RESULT_BYTES // 8, "…")  # escapes can take 6 bytes a character
        body = canonical(plain)
    shown = _shown(plain, call=call, cap=cap, mark=mark)
    return Rendered(
        result=body,
        shown=None if shown == body else shown,
        digest=digest(body),
        value=plain,
        mark=mark,
        redacted=cut,
    )


def _room_after(value: Any, room: int) -> int:
    """What of so many characters a plain value leaves; negative where it does not fit, or is not plain."""
    kind = type(value)
    if kind is str or kind is bytes:
        return room - len(value)
    if value is None or kind is bool or kind is float:
        return room - 8
    if kind is int:
        return room - int(value.bit_length())
    if kind is dict:
        value = [*value, *value.values()]
    elif kind is not list and kind is not tuple:
        return -1
    room -= 8 * (len(value) + 1)
    for item in value:
        if room < 0:
            break
        room = _room_after(item, room)
    return room


def readable(body: bytes) -> str:
    """A kept result as the text a model reads."""
    return _text(json.loads(body))


def _plain(declared: Tool, value: Any, redactor: Redactor) -> tuple[Any, str | None]:
    """JSON values for `value`, and what is wrong with it."""
    if isinstance(value, bytes | bytearray | memoryview):
        return _binary(bytes(value), redactor)
    mark = None
    try:
        plain = declared.result.dump_python(declared.result.validate_python(value), mode="json")
    except (ValidationError, PydanticUserError, PydanticSerializationError, ValueError, TypeError, RecursionError):
        mark = f"the tool returned {_kind(value)}, which is not its declared result type"
        try:
            plain = _ANY.dump_python(value, mode="json")
        except (PydanticSerializationError, ValueError, TypeError, RecursionError):
            return None, f"the tool returned {_kind(value)}, which has no JSON form; its content is not kept"
    try:
        suspect = b"null" in canonical(plain)  # pydantic writes NaN and infinity as null, without a word
    except ValueError:
        suspect = True
    if suspect and _has_odd_number(_ANY.dump_python(value)):
        plain = _finite(to_jsonable_python(value, inf_nan_mode="constants", serialize_unknown=True))
        return plain, _also(mark, "the result holds numbers that JSON has no form for; they stand as text")
    return plain, mark


def _has_odd_number(value: Any) -> bool:
    match value:
        case float():
            return not math.isfinite(value)
        case dict():
            return any(_has_odd_number(item) for item in value.values())
        case list() | tuple() | set() | frozenset():
            return any(_has_odd_number(item) for item in value)
        case _:
            return False


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else str(value)
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list():
            return [_finite(item) for item in value]
        case _:
            return value


def _binary(value: bytes, redactor: Redactor) -> tuple[Any, str]:
    if len(value) <= MAX_BINARY_BYTES and redactor.holds_secret(value):
        return None, f"the tool returned {len(value)} bytes of binary data with a secret in them; they are not kept"
    mark = f"the tool returned {len(value)} bytes of binary data (sha256 {digest(value)}), not JSON"
    if len(value) > MAX_BINARY_BYTES:
        return None, mark + "; they are not kept"
    return {"base64": base64.b64encode(value).decode("ascii")}, mark


def _shown(plain: Any, *, call: str, cap: int, mark: str | None) -> bytes:
    if mark is not None and isinstance(plain, Mapping) and set(plain) == {"base64"}:
        return f"[{mark}]".encode()
    text = "(no result)" if plain is None and mark is None else _text(plain)
    if len(text) > cap:
        note = (
            f"\n[… {len(text) - cap} of {len(text)} characters left out here; read them with "
            f'`read_result` and call "{call}" …]\n'
        )
        text = _head_and_tail(text, cap, note)
    if mark is not None:
        text = f"[{mark}]\n{text}" if plain is not None else f"[{mark}]"
    return text.encode("utf-8", "replace")


def _text(plain: Any) -> str:
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _head_and_tail(text: str, room: int, note: str) -> str:
    head = room * 2 // 3
    return text[:head] + note + text[len(text) - (room - head) :]


def _kind(value: Any) -> str:
    return f"a `{type(value).__name__}`"


def _also(mark: str | None, more: str) -> str:
    return more if mark is None else f"{mark}; {more}"
