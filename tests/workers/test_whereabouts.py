"""Whether a session has taken up all that it was sent, by Temporal's word."""

from __future__ import annotations

import pytest

from holdfast.states import SessionStatus
from holdfast_workers.whereabouts import Whereabouts, whereabouts

IDLE, RUNNING, WAITING, HELD = (SessionStatus(name) for name in ("idle", "running", "waiting", "held"))


@pytest.mark.parametrize(
    ("says", "untaken", "working", "told", "stands"),
    [
        (IDLE, False, False, IDLE, IDLE),
        (IDLE, True, False, IDLE, None),  # a message came
        (RUNNING, False, True, IDLE, None),  # it is worked on, and the ledger not told yet
        (WAITING, False, True, WAITING, WAITING),  # one call waits for a person while another runs
        (HELD, False, False, IDLE, HELD),  # the ledger that was told is not the one that is back
        (RUNNING, False, False, IDLE, IDLE),  # the attribute is not kept
        (None, False, False, IDLE, IDLE),
        (None, False, True, IDLE, None),
        (None, False, True, WAITING, WAITING),
    ],
)
def test_a_status_from_before_what_was_sent_is_not_where_a_session_stands(says, untaken, working, told, stands):
    assert Whereabouts(status=says, untaken=untaken, working=working).standing(told) is stands


async def test_what_no_worker_has_taken_up_is_untaken(open_house):
    async with open_house(work=False) as house:
        session_id = await house.start("hello")
        found = await whereabouts(house.temporal, session_id)
        assert found is not None
        assert (found.status, found.untaken, found.working) == (RUNNING, True, False)
        assert await whereabouts(house.temporal, "never-was") is None
