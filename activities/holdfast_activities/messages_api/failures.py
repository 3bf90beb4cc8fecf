"""What went wrong between a worker and the model, and whether trying again can help.

The one place that maps exceptions of the client. Status alone is not enough: an `error` event inside a stream comes
as status 200, and a dropped stream is no API error at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

RETRYABLE_STATUS = frozenset({408, 409, 429})
BUSY_STATUS = frozenset({429, 529})

_RETRYABLE_TYPES = frozenset(
    {
        "api_error",
        "overloaded_error",
        "rate_limit_error",
        "timeout_error",
        "conflict_error",
        "internalserverexception",  # Bedrock's names, in lower case
        "modelstreamerrorexception",
        "modeltimeoutexception",
        "serviceunavailableexception",
        "throttlingexception",
    }
)
_BUSY_TYPES = frozenset({"overloaded_error", "rate_limit_error", "throttlingexception"})
_PERMANENT_TYPES = frozenset(
    {
        "authentication_error",
        "billing_error",
        "invalid_request_error",
        "not_found_error",
        "permission_error",
        "request_too_large",
        "validationexception",
    }
)
TOO_LARGE_STATUS = 413
_COUNTED = re.compile(r"(\d+) tokens? >")
"""As in `prompt is too long: 208310 tokens > 200000 maximum`."""
_TOO_LONG = ("prompt is too long", "context window", "too many tokens", "input is too long")


class StreamCutShort(Exception):
    """The stream ended without `message_stop`: the answer is not whole, whatever the status was."""


class StreamError(Exception):
    """An `error` event that the client passed on as data."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, kw_only=True)
class Failure:
    """`permanent`: the same request will fail again. `busy`: the provider asks for patience, nothing is broken."""

    message: str
    """For the user: what happened and what to do next."""
    turned_away: bool
    """No model worked on it, unless an answer had begun: nothing is billed."""
    permanent: bool
    kind: str
    busy: bool = False
    retry_after: timedelta | None = None
    evidence: Mapping[str, Any]
    """Error type, HTTP status and the provider's request id; never content."""


def classify(error: Exception, now: datetime) -> Failure | None:
    """Say what an exception of the client means; None if it is not the client's (a bug of ours).

    Args:
        now: to read a `retry-after` that is a date.
    """
    import anthropic
    import httpx2

    if isinstance(error, anthropic.APIStatusError):
        return _status(error, now)
    if isinstance(error, StreamError):
        return _typed(error.kind, str(error), {"error": error.kind})
    if isinstance(error, StreamCutShort | anthropic.APIConnectionError | httpx2.TransportError):
        return Failure(
            message=f"the connection to the Messages API was lost ({_cause(error)})",
            turned_away=isinstance(error.__cause__ or error, httpx2.ConnectError | httpx2.ConnectTimeout),
            permanent=False,
            kind="connection",
            evidence={"error": _cause(error)},
        )
    if isinstance(error, anthropic.APIResponseValidationError | httpx2.HTTPError | httpx2.StreamError):
        return _transient(f"the Messages API's answer could not be read ({_cause(error)})", error)
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return _transient("the Messages API's stream could not be read", error)
    if isinstance(error, anthropic.AnthropicError) or _lacks_credentials(error):
        return Failure(
            message=f"no request to the Messages API could be made: {error}. Set ANTHROPIC_API_KEY for the worker",
            turned_away=True,
            permanent=True,
            kind="credentials",
            evidence={"error": type(error).__name__},
        )
    return None


@dataclass(frozen=True)
class TooLong:
    """The provider refused a request for its length. `tokens`: its count of them, where it named one."""

    tokens: int | None


def too_long(error: Exception) -> TooLong | None:
    """Whether a shorter request might be taken; None for any other error."""
    import anthropic

    if isinstance(error, anthropic.APIStatusError):
        words, large = str(error.api_message or error.message), error.status_code == TOO_LARGE_STATUS
    elif isinstance(error, StreamError):
        words, large = str(error), error.kind == "request_too_large"
    else:
        return None
    if not large and not _says_too_long(words):
        return None
    counted = _COUNTED.search(words)
    return TooLong(int(counted[1]) if counted else None)


def _says_too_long(words: str) -> bool:
    return any(phrase in words.lower() for phrase in _TOO_LONG)


def _status(error: Any, now: datetime) -> Failure:
    kind = str(error.type or "")
    words = error.api_message or error.message
    evidence = {"error": kind or type(error).__name__, "status": error.status_code, "request_id": error.request_id}
    if error.status_code < 400:  # inside a stream
        return _typed(kind, words, evidence)
    retryable = error.status_code in RETRYABLE_STATUS or error.status_code >= 500
    if asked := error.response.headers.get("x-should-retry"):
        retryable = asked == "true"
    if not retryable:
        message = _explain(error.status_code, kind, words)
        return Failure(message=message, turned_away=True, permanent=True, kind=kind or "status", evidence=evidence)
    return Failure(
        message=f"the Messages API answered {error.status_code} ({words})",
        turned_away=True,
        permanent=False,
        kind=kind or "status",
        busy=error.status_code in BUSY_STATUS,
        retry_after=read_retry_after(error.response.headers, now),
        evidence=evidence,
    )


def _typed(kind: str, words: str, evidence: Mapping[str, Any]) -> Failure:
    """An error inside a stream. A type nobody knows is tried again: the attempt budget ends it."""
    lowered = kind.lower()
    if lowered in _PERMANENT_TYPES:
        message = _explain(400, kind, words)
        return Failure(message=message, turned_away=True, permanent=True, kind=kind, evidence=evidence)
    message = f"the Messages API broke off with {kind or 'an error'} ({words})"
    busy = lowered in _BUSY_TYPES
    known = lowered in _RETRYABLE_TYPES
    return Failure(
        message=message,
        turned_away=True,
        permanent=False,
        kind=kind if known else "stream",
        busy=busy,
        evidence=evidence,
    )


def _transient(message: str, error: Exception) -> Failure:
    evidence = {"error": type(error).__name__}
    return Failure(message=message, turned_away=False, permanent=False, kind="protocol", evidence=evidence)


def _explain(status: int, kind: str, words: str) -> str:
    """A permanent refusal, in words for the user."""
    if status == TOO_LARGE_STATUS or _says_too_long(words):
        return (
            f"the conversation is too long for the model ({words}). Start a new session; so that it does not "
            "grow as long, give its agent a memory (`strategy` in `[agents.NAME.memory]`), a lower `above` where "
            "it has one, and tools that return a lot a lower `result_cap`"
        )
    match status:
        case 401:
            return f"the Messages API refused the key: set ANTHROPIC_API_KEY to a valid one ({words})"
        case 402:
            return f"the Messages API asks for payment: {words}"
        case 403:
            return f"the key may not do this: {words}. Use a key of a workspace that may use the model"
        case 404:
            return f"the Messages API does not know this: {words}. Check the agent's `model` and the base URL"
        case _:
            return f"the Messages API refused the request as {kind or status}: {words}"


def read_retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """`retry-after-ms`, or `retry-after` in seconds or as an HTTP date. None if absent, unreadable or past."""
    for name, unit in (("retry-after-ms", "milliseconds"), ("retry-after", "seconds")):
        value = headers.get(name)
        if value is None:
            continue
        try:
            wait = timedelta(**{unit: float(value)})
        except (ValueError, OverflowError):
            wait = _until(value, now)
        if wait > timedelta(0):
            return wait
    return None


def _until(value: str, now: datetime) -> timedelta:
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return timedelta(0)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now


def _cause(error: BaseException) -> str:
    return type(error.__cause__ or error).__name__


def _lacks_credentials(error: Exception) -> bool:
    """The SDK raises a bare TypeError where no credential was found."""
    return isinstance(error, TypeError) and "authentication method" in str(error)
