"""Loopback TCP ports: the wanted ones where they are free, others where not."""

from __future__ import annotations

import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether a server could listen on the loopback `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that the kernel will not hand to anybody else for a while."""
    with socket.create_server((LOOPBACK, 0)) as server:
        port: int = server.getsockname()[1]
        # A connection left in TIME_WAIT keeps other processes from being given the same port in the meantime.
        with socket.create_connection((LOOPBACK, port)) as client:
            accepted, _ = server.accept()
            accepted.close()
            client.recv(1)
    return port


def choose_port(preferred: Iterable[int]) -> int:
    """The first free one of `preferred`, else any free port."""
    return next((port for port in preferred if is_free(port)), None) or free_port()
