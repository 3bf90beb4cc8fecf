"""Loopback TCP ports: the wanted ones where they are free, others where not."""

from __future__ import annotations

import socket

from holdfast_workers.stack.errors import StackError

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


class PortChoice:
    """Ports for several servers at once, none given twice: not to two stacks that start together either.

    Between the choice and the server's own bind the port is free for anybody, so it is marked by a UDP socket of
    the same number, which every user sees and no crash leaves behind. Keep the choice as long as the servers.
    """

    def __init__(self) -> None:
        self._given: set[int] = set()
        self._marks: list[socket.socket] = []

    def exactly(self, port: int) -> int:
        """`port` itself. Raises `StackError` if it is taken."""
        if not self._is_free(port):
            raise StackError(f"Port {port} is taken. Choose another one, or leave the choice out.")
        return self._give(port)

    def first_free(self, *preferred: int | None) -> int:
        """The first free one of `preferred`, else any free port."""
        for port in preferred:
            if port is not None and self._is_free(port):
                return self._give(port)
        return self._give(free_port())

    def _is_free(self, port: int) -> bool:
        return port not in self._given and is_free(port) and self._mark(port)

    def _mark(self, port: int) -> bool:
        mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            mark.bind((LOOPBACK, port))
        except OSError:
            mark.close()
            return False
        self._marks.append(mark)
        return True

    def close(self) -> None:
        """Give the marks back."""
        while self._marks:
            self._marks.pop().close()

    def _give(self, port: int) -> int:
        self._given.add(port)
        return port
