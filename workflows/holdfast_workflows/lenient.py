"""Signals as people type them: a raw JSON value, with what is missing filled in.

A signal that does not decode is dropped by the SDK without a trace, so ours take any value and say in the
ledger and the details what was wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from holdfast.wire import Wire
from holdfast_workflows.mailbox import Refusal

M = TypeVar("M", bound=Wire)


def read_signal(model: type[M], payload: Any, *, fallback_id: str, **fixed: Any) -> M:
    """Read a signal's payload as `model`.

    Args:
        payload: an object; for `send` also a bare string.
        fallback_id: used when the payload brings no id.
        fixed: fields the signal's name decides, or that its sender may not choose.

    Raises:
        Refusal: `invalid`, naming the fields that do not fit.
    """
    if isinstance(payload, str) and "text" in model.model_fields:
        payload = {"text": payload}
    if payload is None:
        payload = {}
    if not isinstance(payload, Mapping):
        raise Refusal("invalid", f"a JSON object is expected, not {type(payload).__name__}")
    try:
        return model.model_validate({"id": fallback_id, **payload, **fixed})
    except ValidationError as error:
        fields = "; ".join(f"`{'.'.join(map(str, e['loc']))}`: {e['msg']}" for e in error.errors())
        raise Refusal("invalid", fields) from error
