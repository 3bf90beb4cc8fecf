"""`GET /healthz` for whoever restarts workers: 200 while this one polls, 503 otherwise. Standard library only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

READ_WITHIN_S = 5.0


@asynccontextmanager
async def serve_health(port: int, healthy: Callable[[], bool], *, host: str = "127.0.0.1") -> AsyncIterator[None]:
    """Answer on `port` for the length of the block. Raises OSError where the port is taken."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await asyncio.wait_for(reader.readline(), READ_WITHIN_S)
            status = _status(request.decode("latin-1").split(), healthy())
            body = f"{status.phrase}\n"
            head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
            await writer.drain()
        except (TimeoutError, ConnectionError):
            pass  # a prober that went away
        finally:
            writer.close()

    server = await asyncio.start_server(answer, host, port)
    async with server:
        yield


def _status(request: list[str], healthy: bool) -> HTTPStatus:
    if len(request) < 2 or request[0] != "GET" or request[1] != "/healthz":
        return HTTPStatus.NOT_FOUND
    return HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
