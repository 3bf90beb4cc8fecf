"""Ports of stacks that start at the same moment."""

from __future__ import annotations

import socket

import pytest

from holdfast_workers.stack.ports import LOOPBACK, PortChoice, free_port, reserve


def test_a_port_is_not_given_to_two_stacks_though_no_server_listens_yet() -> None:
    wanted = free_port()
    first, second = PortChoice(), PortChoice()
    try:
        assert first.first_free(wanted) == wanted
        assert second.first_free(wanted) != wanted
    finally:
        first.close()
        second.close()


def test_a_port_of_a_stack_that_ended_is_free_again() -> None:
    wanted = free_port()
    first, second = PortChoice(), PortChoice()
    try:
        assert first.first_free(wanted) == wanted
        first.close()
        assert second.first_free(wanted) == wanted
    finally:
        second.close()


def test_a_chosen_port_goes_to_a_server_and_to_no_outgoing_connection() -> None:
    port = reserve(free_port())
    with socket.create_server((LOOPBACK, 0)) as elsewhere, socket.socket() as outgoing:
        with pytest.raises(OSError, match="in use"):
            outgoing.bind((LOOPBACK, port))  # as the kernel does for whoever connects
        outgoing.connect(elsewhere.getsockname())
    with socket.create_server((LOOPBACK, port)) as server:
        with pytest.raises(OSError, match="in use"):
            reserve(port)
        assert server.getsockname()[1] == port
