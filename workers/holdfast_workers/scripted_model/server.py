"""Running the scripted model: in the foreground (`serve`), or on a thread beside a test (`running`).

async with running("name: ...") as model:
    client = AsyncAnthropic(base_url=model.url, api_key="any", max_retries=0)
    ...
    assert model.count == 1 and model.requests[0].body["model"] == "..."
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Self

import uvicorn
from starlette.applications import Starlette

from holdfast_workers.scripted_model.app import ConnectionDropped, Desk, Received, build_app
from holdfast_workers.scripted_model.faults import FAULTS
from holdfast_workers.scripted_model.scenario import Source
from holdfast_workers.scripted_model.wire import SCRIPTED

START_TIMEOUT = 10.0  # seconds
STOP_TIMEOUT = 2.0


def serve(host: str, port: int, scenarios: Sequence[Source] = (), *, pace: float = 1.0) -> None:
    """Serve until SIGTERM or SIGINT, then return.

    Raises:
        ScenarioError: when a scenario cannot be loaded; names file and field.
        OSError: when the address is taken.
    """
    app = build_app(scenarios, pace=pace, keep=200)  # a long-lived server must not keep every transcript
    with _listen(host, port) as listener:
        asyncio.run(_serve(_Server(app), listener))


async def _serve(server: _Server, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stopped.set)
    await server.serve(sockets=[listener])


class ScriptedModel:
    """A scripted model on a free loopback port, in a thread of this process. A context manager, sync or async."""

    def __init__(
        self,
        scenarios: Sequence[Source] = (),
        *,
        shipped: bool = True,
        pace: float = 0.0,
        name: str | None = SCRIPTED,
    ) -> None:
        """Arguments as for `build_app`; streams at once unless `pace` says otherwise."""
        app = build_app(scenarios, shipped=shipped, pace=pace, keep=100_000, name=name)
        self._desk: Desk = app.state.desk
        self._server = _Server(app)
        self._listener = _listen("127.0.0.1", 0)
        self._address: tuple[str, int] = self._listener.getsockname()
        self._thread = threading.Thread(target=self._run, name="scripted-model", daemon=True)
        self._running = threading.Event()
        self._loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        """The base URL for a client, without `/v1`."""
        host, port = self._address
        return f"http://{host}:{port}"

    @property
    def count(self) -> int:
        """Requests to `/v1/*` so far."""
        return self._desk.count

    @property
    def requests(self) -> list[Received]:
        """Requests to `/v1/*` so far, oldest first."""
        return list(self._desk.received)

    async def received(self, count: int, *, timeout: float = 10.0) -> list[Received]:
        """Wait for `count` requests in all; raises TimeoutError, with what came, after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while self.count < count:  # noqa: ASYNC110 - another thread counts
                    await asyncio.sleep(0.005)
        except TimeoutError as error:
            raise TimeoutError(f"{self.count} of {count} requests came within {timeout} s") from error
        return self.requests

    def inject(self, *faults: dict[str, object]) -> None:
        """Spoil the next requests, e.g. `{"kind": "http_error", "status": 529, "times": 2}`."""
        self._desk.faults.inject(FAULTS.validate_python(faults))

    def clear(self) -> None:
        """Forget requests and faults, so that tests may share a server."""
        self._desk.received.clear()
        self._desk.count = 0
        self._desk.faults.clear()

    def start(self) -> Self:
        """Serve from now on. The socket listens already, so no request is ever refused."""
        self._thread.start()
        if not self._running.wait(START_TIMEOUT):
            raise RuntimeError("the scripted model's thread did not start; this machine may be overloaded")
        return self

    def stop(self) -> None:
        """Stop serving; open streams are dropped. Stopping twice is stopping once."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._server.stopped.set)
            self._thread.join(START_TIMEOUT)

    def _run(self) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._running.set()
            await self._server.serve(sockets=[self._listener])

        with self._listener:
            asyncio.run(main())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextlib.asynccontextmanager
async def running(
    *scenarios: Source, shipped: bool = True, pace: float = 0.0, name: str | None = SCRIPTED
) -> AsyncIterator[ScriptedModel]:
    """A scripted model for a test, playing files, directories or YAML texts, then the shipped scenarios."""
    model = ScriptedModel(scenarios, shipped=shipped, pace=pace, name=name).start()
    try:
        yield model
    finally:
        await asyncio.to_thread(model.stop)


class _Server(uvicorn.Server):
    """uvicorn that stops on an event, leaves signals to its caller, and does not wait for stalled streams."""

    def __init__(self, app: Starlette) -> None:
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
        super().__init__(config)
        self.stopped = asyncio.Event()
        self._desk: Desk = app.state.desk
        logging.getLogger("uvicorn.error").addFilter(_not_on_purpose)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        while not self.stopped.is_set():
            await self.on_tick(0)  # renews the date header
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopped.wait(), 1.0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's own, less its fixed pause of 100 ms, which every test would pay."""
        self._desk.closing.set()
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):  # what is left then, `asyncio.run` cancels
                while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0.002)


def _not_on_purpose(record: logging.LogRecord) -> bool:
    """Drops uvicorn's report of a connection that a fault dropped, or of uvicorn's own start and stop."""
    error = record.exc_info[1] if record.exc_info else None
    return record.levelno >= logging.WARNING and not isinstance(error, ConnectionDropped)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. It names its protocol because asyncio turns Nagle's delay (40 ms) off only then."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener
