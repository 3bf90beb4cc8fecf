"""A crash at each step, for each recovery class: what the next attempt does. docs/effects.md shows it as a table.

Whoever asks next is a retry, an activity that was reset, unpaused or run again by a reset workflow: they differ in
Temporal's attempt number alone, which is 1 again after a reset, and nothing may depend on it.
"""

from __future__ import annotations

import pytest

from holdfast.states import CallStatus, EffectState, RecoveryClass
from tests.protocol.conftest import CLASSES, Scene, Stage
from tests.protocol.simulated import (
    AFTER_CLAIM,
    AFTER_EFFECT,
    AFTER_RECORD,
    BEFORE_CLAIM,
    BEFORE_COMPLETION,
    BEFORE_EFFECT,
    BEFORE_RECORD,
)

RETRY, IDEMPOTENT, PROBE, OPERATOR, TRANSACTIONAL = CLASSES
ASKED_BY = {"a retry": 2, "a reset or unpaused activity": 1}
DONE, UNKNOWN = EffectState.DONE, EffectState.UNKNOWN

each_class = pytest.mark.parametrize("recovery", CLASSES, ids=[each.value for each in CLASSES])
whoever_asks = pytest.mark.parametrize("attempt", ASKED_BY.values(), ids=list(ASKED_BY))


async def _crash_and_go_on(stage: Stage, recovery: RecoveryClass, step: str, attempt: int) -> tuple[str, int, int]:
    """State, times it happened, and requests that were sent, once a next attempt has settled it."""
    scene = await stage.scene()
    process, _ = await scene.run(recovery, crash_at=step)
    assert process.died.is_set(), "it never came to this step"
    outcome = await scene.settle(recovery, attempt=attempt)
    assert await scene.settle(recovery, attempt=attempt) == outcome, "asked again, it answers otherwise"
    result = await scene.state(recovery), await scene.happened(recovery), scene.sent()
    assert (outcome.status is CallStatus.UNKNOWN) == (result[0] == UNKNOWN)
    await scene.end()
    return result


@each_class
@whoever_asks
def test_a_crash_before_the_claim_commits_is_as_if_nothing_was_asked(
    stage: Stage, recovery: RecoveryClass, attempt: int
) -> None:
    assert stage.run(_crash_and_go_on(stage, recovery, BEFORE_CLAIM, attempt)) == (DONE, 1, 1)


@each_class
@whoever_asks
def test_a_crash_after_the_claim_sends_once_or_is_unknown_to_an_operator(
    stage: Stage, recovery: RecoveryClass, attempt: int
) -> None:
    expected = (UNKNOWN, 0, 0) if recovery is OPERATOR else (DONE, 1, 1)
    assert stage.run(_crash_and_go_on(stage, recovery, AFTER_CLAIM, attempt)) == expected


@each_class
@whoever_asks
def test_a_crash_before_the_service_commits_sends_once_or_is_unknown_to_an_operator(
    stage: Stage, recovery: RecoveryClass, attempt: int
) -> None:
    expected = (UNKNOWN, 0, 0) if recovery is OPERATOR else (DONE, 1, 1)
    assert stage.run(_crash_and_go_on(stage, recovery, BEFORE_EFFECT, attempt)) == expected


AFTER_IT_HAPPENED = {
    RETRY: (DONE, 2, 2),  # a read, so it may
    IDEMPOTENT: (DONE, 1, 2),  # the service knows the key
    PROBE: (DONE, 1, 1),  # the service says that it landed
    OPERATOR: (UNKNOWN, 1, 1),
    TRANSACTIONAL: (DONE, 1, 2),  # the first one was rolled back
}


@each_class
@whoever_asks
def test_a_crash_after_the_service_committed_never_makes_a_second_effect(
    stage: Stage, recovery: RecoveryClass, attempt: int
) -> None:
    assert stage.run(_crash_and_go_on(stage, recovery, AFTER_EFFECT, attempt)) == AFTER_IT_HAPPENED[recovery]


@each_class
@whoever_asks
def test_a_crash_before_the_record_commits_never_makes_a_second_effect(
    stage: Stage, recovery: RecoveryClass, attempt: int
) -> None:
    assert stage.run(_crash_and_go_on(stage, recovery, BEFORE_RECORD, attempt)) == AFTER_IT_HAPPENED[recovery]


@each_class
@whoever_asks
def test_a_crash_after_the_record_asks_nobody_again(stage: Stage, recovery: RecoveryClass, attempt: int) -> None:
    assert stage.run(_crash_and_go_on(stage, recovery, AFTER_RECORD, attempt)) == (DONE, 1, 1)


@each_class
@whoever_asks
def test_a_lost_completion_asks_nobody_again(stage: Stage, recovery: RecoveryClass, attempt: int) -> None:
    assert stage.run(_crash_and_go_on(stage, recovery, BEFORE_COMPLETION, attempt)) == (DONE, 1, 1)


HAPPENED = {RETRY: 1, IDEMPOTENT: 1, PROBE: 1, OPERATOR: 1, TRANSACTIONAL: 0}


@each_class
@whoever_asks
@pytest.mark.parametrize("end", ["close_request", "raise_epoch"])
@pytest.mark.parametrize("step", [AFTER_CLAIM, AFTER_EFFECT])
def test_a_request_that_ended_meanwhile_sends_nothing_and_hides_no_doubt(
    stage: Stage, recovery: RecoveryClass, step: str, end: str, attempt: int
) -> None:
    async def story() -> None:
        scene = await stage.scene()
        await scene.run(recovery, crash_at=step)
        sent = scene.sent()
        await getattr(scene, end)()

        outcome = await scene.settle(recovery, attempt=attempt)

        assert scene.sent() == sent
        in_doubt = recovery not in (RETRY, TRANSACTIONAL)
        assert outcome.status is (CallStatus.UNKNOWN if in_doubt else CallStatus.CANCELLED)
        assert not in_doubt or await scene.state(recovery) == UNKNOWN
        assert await scene.happened(recovery) == (HAPPENED[recovery] if step is AFTER_EFFECT else 0)
        await scene.end()

    stage.run(story())


@each_class
@whoever_asks
def test_a_cancelled_call_is_never_dispatched(stage: Stage, recovery: RecoveryClass, attempt: int) -> None:
    async def story() -> None:
        scene = await stage.scene()
        await scene.cancel_call(recovery)
        outcome = await scene.settle(recovery, attempt=attempt)
        assert (outcome.status, scene.sent(), await scene.state(recovery)) == (
            CallStatus.CANCELLED,
            0,
            EffectState.CANCELLED,
        )
        await scene.end()

    stage.run(story())


@each_class
@pytest.mark.parametrize("dies", [True, False], ids=["its worker died", "it broke"])
def test_cancelling_a_call_that_may_have_landed_leaves_its_doubt(
    stage: Stage, recovery: RecoveryClass, dies: bool
) -> None:
    async def story() -> None:
        scene = await stage.scene()
        scene.service.mood = "well" if dies else "breaks after it committed"
        await scene.run(recovery, crash_at=AFTER_EFFECT if dies else None)
        scene.service.mood = "well"
        await scene.cancel_call(recovery)
        await scene.settle(recovery)
        clean = not dies and recovery in (RETRY, TRANSACTIONAL)  # what broke changed nothing
        assert await scene.state(recovery) == (EffectState.FAILED if clean else AFTER_IT_HAPPENED[recovery][0])
        await scene.end()

    stage.run(story())


@pytest.mark.parametrize("step", [AFTER_CLAIM, BEFORE_EFFECT, AFTER_EFFECT, BEFORE_RECORD])
def test_a_key_the_service_forgot_is_not_sent_again(stage: Stage, step: str) -> None:
    async def story() -> None:
        scene = await stage.scene()
        await scene.run(IDEMPOTENT, crash_at=step)
        sent = scene.sent()
        await scene.outlive_the_key(IDEMPOTENT)

        outcome = await scene.settle(IDEMPOTENT)

        assert outcome.status is CallStatus.UNKNOWN
        assert (await scene.state(IDEMPOTENT), scene.sent()) == (UNKNOWN, sent)
        await scene.end()

    stage.run(story())


@pytest.mark.parametrize("mood", ["refuses", "away"])
@pytest.mark.parametrize("recovery", [IDEMPOTENT, PROBE, OPERATOR], ids=lambda each: each.value)
def test_a_later_clean_failure_says_nothing_of_an_attempt_that_may_have_landed(
    stage: Stage, recovery: RecoveryClass, mood: str
) -> None:
    async def story(scene: Scene) -> None:
        await scene.run(recovery, crash_at=AFTER_EFFECT)
        scene.service.mood = mood  # type: ignore[assignment]  # one of `Mood`

        outcome = await scene.settle(recovery)

        landed = recovery is PROBE  # it was asked, and never sent again
        assert outcome.status is (CallStatus.OK if landed else CallStatus.UNKNOWN)
        assert await scene.state(recovery) == (DONE if landed else UNKNOWN)
        assert await scene.settle(recovery) == outcome
        await scene.end()

    stage.run(story(stage.run(stage.scene())))
