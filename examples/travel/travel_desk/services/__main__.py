"""Starts the desk: `python -m travel_desk.services --port 8085 --data DIR`. Loopback only."""

import signal
import socket
import sys
from pathlib import Path
from types import FrameType

import click
import uvicorn
from starlette.types import Scope

from travel_desk.services.app import Desk
from travel_desk.services.store import Store

STOP_WITHIN = 2  # seconds for requests under way, stalled ones included


@click.command(help="Run the travel desk's services until SIGTERM or Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="any free one")
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), required=True, help="Directory of the database."
)
def main(port: int, data: Path) -> None:
    listener = _listen(port)
    store = Store(data)

    def drop(scope: Scope) -> None:
        for protocol in server.server_state.connections:
            if getattr(protocol, "client", None) == tuple(scope["client"]):
                protocol.transport.abort()

    server = uvicorn.Server(
        uvicorn.Config(
            Desk(store, drop=drop).app(),
            http="h11",
            lifespan="off",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=STOP_WITHIN,
        )
    )
    # uvicorn stops on a signal and raises it again; these turn that into exit code 0.
    signal.signal(signal.SIGTERM, _exit_cleanly)
    signal.signal(signal.SIGINT, _exit_cleanly)
    click.echo(f"travel desk: http://127.0.0.1:{listener.getsockname()[1]}")
    sys.stdout.flush()
    try:
        server.run(sockets=[listener])
    finally:
        store.close()


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        raise click.ClickException(f"port {port} on 127.0.0.1 is taken; choose another with --port") from error
    listener.listen(128)
    return listener


def _exit_cleanly(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main()
