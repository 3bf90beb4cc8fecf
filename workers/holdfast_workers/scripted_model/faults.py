"""Faults: what can go wrong between a model and its client, and how often it still will.

A fault belongs to a turn of a scenario (counted per conversation and turn) or is injected from outside for the
next requests. Counting is the only state the server keeps about conversations.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from math import ceil
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class _Fault(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    times: int | None = Field(default=None, ge=1)
    """How often it strikes: in a scenario, None is always; injected, None is once."""


class HttpError(_Fault):
    """An error status instead of an answer: 429, 500, 529, ..."""

    kind: Literal["http_error"]
    status: int = Field(ge=400, le=599)
    message: str | None = None
    retry_after: float | None = Field(default=None, ge=0)
    """Seconds."""
    retry_after_form: Literal["seconds", "date"] = "seconds"
    counting: bool = False
    """It strikes a request to count tokens instead of one for an answer."""

    def retry_after_header(self, now: datetime) -> str | None:
        """What the `retry-after` header says at `now`: seconds, or an HTTP date rounded up to a full second."""
        if self.retry_after is None:
            return None
        if self.retry_after_form == "seconds":
            return f"{self.retry_after:g}"
        return format_datetime(now.astimezone(UTC) + timedelta(seconds=ceil(self.retry_after)), usegmt=True)


class Stall(_Fault):
    """No bytes for `seconds`: before the headers, or after so many events of the stream."""

    kind: Literal["stall"]
    seconds: float = Field(gt=0)
    after_events: int = Field(default=0, ge=0)
    counting: bool = False
    """As of `HttpError`."""


class Truncate(_Fault):
    """The stream ends cleanly, before `message_stop`. `after_events`: None is half of them."""

    kind: Literal["truncate"]
    after_events: int | None = Field(default=None, ge=0)


class Drop(_Fault):
    """The connection closes in the middle of the stream."""

    kind: Literal["drop"]
    after_events: int | None = Field(default=None, ge=0)


class ErrorEvent(_Fault):
    """An `error` event inside a stream that began with status 200."""

    kind: Literal["error_event"]
    error: str = "overloaded_error"
    after_events: int | None = Field(default=None, ge=0)


class MalformedToolJson(_Fault):
    """The first call's arguments are not JSON. Without streaming its `input` is that text."""

    kind: Literal["malformed_tool_json"]


class UnknownTool(_Fault):
    """The first call names a tool that nobody offered."""

    kind: Literal["unknown_tool"]
    name: str = "no_such_tool"


class MaxTokens(_Fault):
    """The answer is cut in its last block, inside a call's arguments if that is a call."""

    kind: Literal["max_tokens"]


Fault = Annotated[
    HttpError | Stall | Truncate | Drop | ErrorEvent | MalformedToolJson | UnknownTool | MaxTokens,
    Field(discriminator="kind"),
]
FAULTS: TypeAdapter[list[Fault]] = TypeAdapter(list[Fault])


class FaultBook:
    """Which fault strikes next. Not safe across threads: one event loop owns it."""

    def __init__(self) -> None:
        self._injected: deque[Fault] = deque()
        self._struck: Counter[tuple[str, int]] = Counter()

    @property
    def injected(self) -> tuple[Fault, ...]:
        return tuple(self._injected)

    def inject(self, faults: Sequence[Fault]) -> None:
        for fault in faults:
            self._injected.extend([fault] * (fault.times or 1))

    def clear(self) -> None:
        self._injected.clear()
        self._struck.clear()

    def strike_count(self) -> HttpError | Stall | None:
        """The fault for this request to count tokens; None when it shall succeed."""
        if self._injected and isinstance(fault := self._injected[0], HttpError | Stall) and fault.counting:
            self._injected.popleft()
            return fault
        return None

    def strike(self, scripted: Sequence[Fault], *, key: str, has_calls: bool) -> Fault | None:
        """The fault for this request, counted; None when it shall succeed.

        Args:
            scripted: the turn's own faults, tried after the injected ones.
            key: the conversation and turn the scripted faults are counted for.
            has_calls: whether the answer holds a call; faults about calls wait for one that does.
        """
        if self._injected and _applies(self._injected[0], has_calls=has_calls):
            return self._injected.popleft()
        for index, fault in enumerate(scripted):
            if not _applies(fault, has_calls=has_calls):
                continue
            if fault.times is None:
                return fault
            if self._struck[key, index] < fault.times:
                self._struck[key, index] += 1
                return fault
        return None


def _applies(fault: Fault, *, has_calls: bool) -> bool:
    if isinstance(fault, HttpError | Stall):
        return not fault.counting
    return has_calls or not isinstance(fault, MalformedToolJson | UnknownTool)
