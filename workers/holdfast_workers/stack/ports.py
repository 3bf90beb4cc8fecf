"""Loopback TCP ports: the wanted ones where they are free, others where not."""

from __future__ import annotations

import socket

from holdfast_workers.stack.errors import StackError

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """Any port, kept from everybody but a server for a while."""
    return reserve(0)


def reserve(port: int) -> int:
    """Make sure that a server can listen on this loopback port, now and for a minute; 0: on any.

    A connection left in TIME_WAIT keeps the kernel from giving the port to anybody's outgoing connection, while a
    server may still listen there. Raises `OSError` where it is taken.
    """
    with socket.create_server((LOOPBACK, port)) as server:
        taken: int = server.getsockname()[1]
        with socket.create_connection((LOOPBACK, taken)) as client:
            accepted, _ = server.accept()
            accepted.close()
            client.recv(1)
    return taken


class PortChoice:
    """Ports for several servers at once, none given twice: not to two stacks that start together either.

    Between the choice and the server's own bind another stack could choose the port too, so it is marked by a UDP
    socket of the same number, which every user sees and no crash leaves behind. Keep the choice while they run.
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
        return port not in self._given and self._mark(port) and _is_reserved(port)

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


def _is_reserved(port: int) -> bool:
    try:
        return reserve(port) == port
    except OSError:
        return False
