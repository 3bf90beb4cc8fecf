"""A probe's final "no" lets the same attempt send, however long it took, while its claim's gates are open."""

from __future__ import annotations

import pytest

from holdfast.states import RecoveryClass
from tests.protocol.conftest import Scene, Stage
from tests.protocol.simulated import AFTER_CLAIM

PROBE = RecoveryClass.PROBE


async def stalled_in_doubt(stage: Stage) -> Scene:
    """The first attempt is lost; the second claims, and stalls before it asks the probe."""
    scene = await stage.scene()
    await scene.run(PROBE, crash_at=AFTER_CLAIM)
    await scene.expire(PROBE)
    await scene.run(PROBE, attempt=2, stall_at=AFTER_CLAIM)
    return scene


def test_it_sends_under_the_fence_that_the_refused_key_renewed(stage: Stage) -> None:
    async def story() -> None:
        scene = await stalled_in_doubt(stage)
        await scene.processes[-1].resume()
        assert scene.processes[-1].sent == 1
        assert await scene.state(PROBE) == "DONE"
        await scene.end()

    stage.run(story())


@pytest.mark.parametrize("closed_by", ["the stop button", "the end of its request"])
def test_it_sends_nothing_when_its_gate_was_closed_meanwhile(stage: Stage, closed_by: str) -> None:
    async def story() -> None:
        scene = await stalled_in_doubt(stage)
        if closed_by == "the stop button":
            await scene.disable(PROBE)
        else:
            await scene.close_request()
        await scene.processes[-1].resume()
        assert scene.processes[-1].sent == 0
        assert await scene.happened(PROBE) == 0
        await scene.end()

    stage.run(story())
