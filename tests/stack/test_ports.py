"""Ports of stacks that start at the same moment."""

from __future__ import annotations

from holdfast_workers.stack.ports import PortChoice, free_port


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
