"""A code-defined saga's effects agree with the histories of its run and of its unwinding."""

from __future__ import annotations

from holdfast_workers.reconciling import reconcile
from tests.sagas.conftest import NEW_DAY, Sagas


async def test_steps_and_compensations_are_found_in_the_histories_of_both_workflows(sagas: Sagas) -> None:
    (booking,) = await sagas.bookings(1)
    saga = sagas.new_id()
    await sagas.breaks(saga, "money", "refuse_402")
    await sagas.start("travel.rebook", {"booking_id": booking, "date": NEW_DAY}, saga)
    undone = len((await sagas.result(saga)).undone)
    reader = sagas.holdfast.ledger.reader
    found = await reconcile(sagas.holdfast.temporal, reader, saga)
    attempted = [effect for effect in await reader.effects(session_id=saga) if effect.token > 0]
    assert found.differences == ()
    assert (found.compared, found.expired) == (len(attempted), 0)
    assert sum(effect.kind == "undo" for effect in attempted) == undone > 0
