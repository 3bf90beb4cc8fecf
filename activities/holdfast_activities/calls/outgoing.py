"""The HTTP client a tool gets: it sends the call's key and trace, never retries, and remembers what it sent.

The memory is what the failure rule rests on. A refused connection means that nothing happened only when no earlier
request of the same attempt can have had an effect; a client of the tool's own says nothing of the kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx2

READS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
IN_DOUBT_STATUS = frozenset({408, 409, 425, 429})
"""Client errors that do not say that nothing happened: try again, or something is under way."""
UNREAD_STATUS = frozenset({401, 403, 407})
"""Client errors that come before anybody looks at the idempotency key: they say nothing of earlier requests."""
NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class Outgoing(httpx2.AsyncBaseTransport):
    """One attempt's requests, over the worker's shared connections."""

    def __init__(self, shared: httpx2.AsyncBaseTransport, *, answered: Callable[[], None] = lambda: None) -> None:
        """Args:
        answered: called when the answer to a request that is no read has begun, before anybody sees it.
        """
        self._shared = shared
        self._answered = answered
        self._requests: list[httpx2.Request] = []
        self.standing = False
        """A request that is no read may have had an effect."""
        self.answered = False
        """The service refused a request that is no read, and knew its key: earlier ones had no effect either."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._requests.append(request)
        try:
            response = await self._shared.handle_async_request(request)
        except NOT_SENT:
            raise
        except BaseException:  # cancelled too: the request may have arrived
            self._may_stand(request)
            raise
        if not is_refusal(response.status_code):
            self._may_stand(request)
        elif request.method not in READS and response.status_code not in UNREAD_STATUS:
            self.answered = True
        if request.method not in READS:
            self._answered()
        return response

    async def aclose(self) -> None:
        """The connections are the worker's."""

    def sent(self, error: httpx2.RequestError | httpx2.HTTPStatusError) -> bool:
        """Whether this error is about a request of this client."""
        try:
            request = error.request
        except RuntimeError:  # raised by hand, without a request
            return False
        return any(request is mine for mine in self._requests)

    def _may_stand(self, request: httpx2.Request) -> None:
        self.standing = self.standing or request.method not in READS


def is_refusal(status: int) -> bool:
    """Whether the status says that nothing happened and nothing will."""
    return 400 <= status < 500 and status not in IN_DOUBT_STATUS


def client_for(outgoing: Outgoing, *, key: str, trace: Mapping[str, str], timeout: timedelta) -> httpx2.AsyncClient:
    """A client for one attempt. It reads no environment: credentials and proxies are the worker's to give."""
    return httpx2.AsyncClient(
        transport=outgoing,
        headers={"Idempotency-Key": key, **trace},
        timeout=timeout.total_seconds(),
        follow_redirects=False,
        trust_env=False,
    )


def retry_after(response: httpx2.Response) -> timedelta | None:
    """The wait a service asks for, in seconds or as a date."""
    asked = response.headers.get("retry-after", "").strip()
    if asked.isdigit():
        return timedelta(seconds=int(asked))
    try:
        wait = parsedate_to_datetime(asked) - datetime.now(UTC)
    except (ValueError, TypeError):
        return None
    return max(wait, timedelta(0))
