"""Questions to a server on loopback: does it answer yet?"""

from __future__ import annotations

import asyncio
import http.client
import urllib.request
from typing import Any

from holdfast_workers.stack.processes import Probe


def http_call(url: str, *, body: bytes | None = None, timeout_s: float = 10.0) -> bytes:
    """GET `url`, or POST `body` to it. Raises `OSError` for anything but a 2xx answer."""
    # Whatever proxy the environment names is not for loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, data=body), timeout=timeout_s) as response:
            answer: Any = response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"`{url}` does not speak HTTP: {error}") from error
    return bytes(answer)


def http_probe(url: str) -> Probe:
    """Ready when a GET of `url` succeeds."""

    async def answers() -> bool:
        try:
            await asyncio.to_thread(http_call, url, timeout_s=2.0)
        except OSError:
            return False
        return True

    return answers
