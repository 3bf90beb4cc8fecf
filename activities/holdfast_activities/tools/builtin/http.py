"""`http_request`: one request to a host on the list, to a public address, following no redirect by itself.

GET and HEAD are reads; every other method is irreversible, carries the effect's key, and is sent at most once
unless somebody says what became of it: an arbitrary service need not honour the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urljoin

import httpx2
from pydantic import Field

from holdfast.config import HttpSettings
from holdfast.errors import ToolRefused
from holdfast.recovery import Never, Operator
from holdfast.states import Tier
from holdfast.tools import ToolContext, tool
from holdfast_activities.resources import resources
from holdfast_activities.tools.builtin.addresses import allowed, resolve

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
READS = ("GET", "HEAD")
SHOWN_HEADERS = ("content-type", "content-length", "etag", "last-modified", "link", "location", "retry-after")
OWN_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "idempotency-key", "traceparent", "tracestate"}
)
MAX_URL = 2000
MAX_BODY = 1_000_000

Url = Annotated[
    str, Field(max_length=MAX_URL, description='Whole address, e.g. "https://api.example.com/v1/items".')
]
Headers = Annotated[dict[str, str], Field(max_length=50, description='E.g. {"Accept": "application/json"}.')]
Body = Annotated[
    str | None, Field(max_length=MAX_BODY, description="Request body as text; set Content-Type in `headers`.")
]


def _facts(url: str, method: Method = "GET", headers: Any = None, body: Any = None) -> Mapping[str, Any]:
    target = _parse(url)
    tier = Tier.READ if method in READS else Tier.IRREVERSIBLE
    return {"tier": tier, "method": method, "host": target.host, "scheme": target.scheme}


@tool(
    tier="irreversible",
    recovery=Operator(),
    undo=Never("nobody knows what a request to an arbitrary service did"),
    facts=_facts,
    timeout="30s",
)
async def http_request(
    ctx: ToolContext,
    url: Url,
    method: Method = "GET",
    headers: Headers = {},  # noqa: B006 - never changed
    body: Body = None,
) -> dict[str, Any]:
    """Send one HTTP request to an allowed host and get status, headers and body.

    Use it where no tool of its own exists for the service. GET and HEAD run at once; every other method changes
    something for good, so a person may be asked first. Redirects are not followed: request the `location` given.
    """
    settings = resources(ctx).http
    request = await _request(ctx, settings, url, method, headers, body)
    response = await ctx.http.send(request, stream=True, follow_redirects=False)
    try:
        content, whole = await _read(response, settings.max_bytes)
    finally:
        await response.aclose()
    return _answer(response, content, whole=whole, url=url)


async def _request(
    ctx: ToolContext, settings: HttpSettings, url: str, method: Method, headers: Mapping[str, str], body: str | None
) -> httpx2.Request:
    """The request to the checked address itself. Raises ToolRefused for a host or address not allowed."""
    target = _parse(url)
    port = target.port or (443 if target.scheme == "https" else 80)
    if not allowed(target.host, port, settings.allow_hosts):
        raise ToolRefused(
            f"the host `{target.host}` is not allowed; allowed: {', '.join(settings.allow_hosts) or 'none'}. "
            "A person can add it to [http] allow_hosts"
        )
    address = await resolve(target.host, port, allow_private=settings.allow_private)
    own = {name: value for name, value in headers.items() if name.lower() not in OWN_HEADERS}
    return ctx.http.build_request(
        method,
        target.copy_with(host=address),
        # Connections are shared by address; another host there must not get one that was opened for this name.
        headers={**own, "Host": target.netloc.decode("ascii"), "Connection": "close"},
        content=body,
        extensions={"sni_hostname": target.host},
        timeout=settings.timeout.total_seconds(),
    )


async def _read(response: httpx2.Response, limit: int) -> tuple[bytes, bool]:
    """At most `limit` bytes of the decoded body, and whether that is all of it."""
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > limit:
            return bytes(content[:limit]), False
    return bytes(content), True


def _answer(response: httpx2.Response, content: bytes, *, whole: bool, url: str) -> dict[str, Any]:
    shown = {name: response.headers[name] for name in SHOWN_HEADERS if name in response.headers}
    if "location" in shown:
        shown["location"] = urljoin(url, shown["location"])
    answer: dict[str, Any] = {"status": response.status_code, "headers": shown}
    try:
        answer["body"] = content.decode(response.charset_encoding or "utf-8")
    except (UnicodeDecodeError, LookupError):
        answer["body"] = f"[{len(content)} bytes that are no text]"
    if not whole:
        answer["cut"] = f"the body was longer; only its first {len(content)} bytes were read"
    return answer


def _parse(url: str) -> httpx2.URL:
    """Raises ToolRefused for anything but an http(s) address without credentials."""
    try:
        target = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise ToolRefused("`url` is no valid address") from error
    if target.scheme not in ("http", "https") or not target.host:
        raise ToolRefused('`url` must begin with "https://" or "http://" and name a host')
    if target.userinfo:
        raise ToolRefused("`url` must not hold a user name or password")
    return target
