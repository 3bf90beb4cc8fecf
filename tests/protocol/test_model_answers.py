"""Model turns go by the same protocol, class `Retry`: a recorded answer is never asked for again."""

from __future__ import annotations

import secrets
from typing import Literal

import pytest

from holdfast.states import EffectState
from holdfast_ledger.records import Busy, Granted, Settled
from holdfast_ledger.verify import verify_session
from tests.ledger.conftest import Conversation
from tests.protocol.conftest import Stage

Step = Literal["claimed", "answered", "recorded"]
PAID: dict[Step, int] = {"claimed": 1, "answered": 2, "recorded": 1}
"""How often the model is asked where a worker dies after each step: again only where no record stands."""


async def _conversation(stage: Stage) -> Conversation:
    conversation = Conversation(ledger=stage.ledger, owner=stage.owner, session_id=f"m-{secrets.token_hex(6)}")
    await conversation.open()
    return conversation


@pytest.mark.parametrize("step", PAID)
def test_an_answer_is_paid_for_again_only_where_no_record_stands(stage: Stage, step: Step) -> None:
    async def story() -> None:
        conversation = await _conversation(stage)
        incoming, asked = conversation.user_message(), 0
        for attempt in (1, 2, 3):
            claim = conversation.model_claim(incoming)
            claimed = await stage.ledger.claim(claim)
            if isinstance(claimed, Settled):
                continue
            assert isinstance(claimed, Granted)  # a read's lease is not waited for
            if attempt == 1 and step == "claimed":
                continue
            asked += 1
            if attempt == 1 and step == "answered":
                continue
            assert (await stage.ledger.record_turn(conversation.turn_record(claim, claimed.token))).accepted

        assert asked == PAID[step]
        assert await _recorded_turns(conversation) == 1
        assert (await verify_session(stage.ledger.database, conversation.session_id)).ok

    stage.run(story())


def test_the_answer_of_a_superseded_attempt_changes_nothing(stage: Stage) -> None:
    async def story() -> None:
        conversation = await _conversation(stage)
        claim = conversation.model_claim(conversation.user_message())
        old = await stage.ledger.claim(claim)
        new = await stage.ledger.claim(conversation.model_claim(*claim.incoming))
        assert isinstance(old, Granted)
        assert isinstance(new, Granted)

        for token, accepted in ((old.token, False), (new.token, True), (old.token, False)):
            recorded = await stage.ledger.record_turn(conversation.turn_record(claim, token))
            assert recorded.accepted is accepted

        assert recorded.state is EffectState.DONE
        assert await _recorded_turns(conversation) == 1

    stage.run(story())


def test_the_last_attempt_of_a_turns_budget_is_waited_for(stage: Stage) -> None:
    async def story() -> None:
        conversation = await _conversation(stage)
        claim = conversation.model_claim(conversation.user_message(), attempts=1)
        await stage.ledger.claim(claim)

        assert isinstance(await stage.ledger.claim(conversation.model_claim(*claim.incoming, attempts=1)), Busy)

    stage.run(story())


async def _recorded_turns(conversation: Conversation) -> int:
    query = "SELECT turns FROM holdfast.session WHERE id = $1"
    return int(await conversation.owner.fetchval(query, conversation.session_id))
