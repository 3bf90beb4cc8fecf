"""`files.apply_changes`: a set of edits lands whole or not at all, whatever becomes of any of them."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.states import SagaState
from tests.sagas.conftest import ENDS_WITHIN_S, LOOK_EVERY_S, Sagas
from tests.waiting import until

ENDINGS = {
    "an exception": SagaState.COMMITTED,
    "cancelled": SagaState.ABORTED,
    "terminated": SagaState.ABORTED,
}


async def test_edits_of_a_workspace_land_whole(sagas: Sagas) -> None:
    (sagas.workspace / "whole.md").write_text("one two")
    changes = [
        {"kind": "edit", "path": "whole.md", "old": "one", "new": "1"},
        {"kind": "write", "path": "whole/new.md", "content": "new"},
        {"kind": "edit", "path": "whole.md", "old": "two", "new": "2"},
    ]
    result = await sagas.result(await sagas.start("files.apply_changes", {"changes": changes}))
    assert result.outcome is SagaState.COMMITTED
    assert set(result.result["files"]) == {"whole.md", "whole/new.md"}
    assert (sagas.workspace / "whole.md").read_text() == "1 2"
    assert (sagas.workspace / "whole" / "new.md").read_text() == "new"


@pytest.mark.parametrize("wrong", [0, 1, 2])
async def test_or_not_at_all_whichever_of_them_fails(sagas: Sagas, wrong: int) -> None:
    path = f"half-{wrong}.md"
    (sagas.workspace / path).write_text("one two")
    changes = [
        {"kind": "edit", "path": path, "old": "one", "new": "1"},
        {"kind": "write", "path": f"half-{wrong}-new.md", "content": "new"},
        {"kind": "edit", "path": path, "old": "two", "new": "2"},
    ]
    changes[wrong] = {"kind": "edit", "path": path, "old": "nowhere in it", "new": ""}
    result = await sagas.result(await sagas.start("files.apply_changes", {"changes": changes}))
    assert result.outcome is SagaState.ABORTED
    assert "occurs 0 times" in result.reason
    assert len(result.undone) == wrong
    assert (sagas.workspace / path).read_text() == "one two"
    assert not (sagas.workspace / f"half-{wrong}-new.md").exists()


async def test_a_step_that_landed_and_was_lost_leaves_no_half_of_the_edits(sagas: Sagas) -> None:
    cases = [(step, how) for step in (1, 2, 3) for how in ENDINGS]
    wrong = [said for said in await asyncio.gather(*(judged(sagas, *case) for case in cases)) if said]
    assert not wrong, "\n".join(wrong)


async def judged(sagas: Sagas, step: int, how: str) -> str | None:
    """What is wrong with how it ended, if anything is."""
    path = sagas.workspace / f"lost-{step}-{how}.md"
    path.write_text("one two")
    changes = [
        {"kind": "edit", "path": path.name, "old": "one", "new": "1"},
        {"kind": "write", "path": f"new-{path.name}", "content": "new"},
        {"kind": "edit", "path": path.name, "old": "two", "new": "2"},
    ]
    saga = sagas.new_id()
    lost = sagas.losses.lose(saga, f"change-{step}")
    await sagas.start("files.apply_changes", {"changes": changes}, saga)
    async with asyncio.timeout(ENDS_WITHIN_S):
        await lost.wait()
    if how == "cancelled":
        await sagas.handle(saga).cancel()
    elif how == "terminated":
        await sagas.handle(saga).terminate("a test")
    await until(lambda: has_ended(sagas, saga), f"{saga} to end", within=ENDS_WITHIN_S, pause=LOOK_EVERY_S)
    row = await sagas.holdfast.ledger.sagas.row(saga)
    there = (path.read_text(), path.with_name(f"new-{path.name}").exists())
    wanted = ("1 2", True) if row.state is SagaState.COMMITTED else ("one two", False)
    if (row.state, there) == (ENDINGS[how], wanted) and await sagas.verified(saga):
        return None
    return f"change-{step}, {how}: {row.state} ({row.reason}), and the files are {there}"


async def has_ended(sagas: Sagas, saga: str) -> bool:
    """With what a sweep does for one whose run was terminated."""
    state = (await sagas.holdfast.ledger.sagas.row(saga)).state
    if state is SagaState.OPEN and not await sagas.runs(saga):
        await sagas.holdfast.sweep()
    return state not in (SagaState.OPEN, SagaState.UNWINDING)
