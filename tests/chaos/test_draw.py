"""A seed chooses what goes wrong and what the sessions do: the same seed, the same run."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from holdfast_activities.faults import MODEL, FaultPoint
from holdfast_workers.chaos import faults, shapes
from holdfast_workers.chaos.armed import Armed, Armory
from holdfast_workers.chaos.faults import STORM
from holdfast_workers.scripted_model.scenario import load


def test_the_same_seed_draws_the_same_strikes_and_scripts() -> None:
    assert faults.draw(7, 50, STORM) == faults.draw(7, 50, STORM)
    assert faults.draw(7, 50, STORM) != faults.draw(8, 50, STORM)
    assert shapes.draw(7) == shapes.draw(7)


@pytest.mark.parametrize("seed", range(5))
def test_a_big_run_kills_as_often_as_asked_and_leaves_no_kind_out(seed: int) -> None:
    drawn = Counter(strike.kind for strike in faults.draw(seed, 50, STORM))

    assert drawn["kill"] + drawn["crash_at"] == 50
    assert {*drawn} == STORM.keys() - {"approvals", "abort", "session_terminated"}  # those are people's


def test_only_the_kinds_asked_for_are_drawn() -> None:
    assert {strike.kind for strike in faults.draw(1, 9, ["kill", "desk"])} == {"kill", "desk"}
    assert {strike.kind for strike in faults.draw(1, 9, ["model"])} == {"model"}


def test_every_fault_point_has_its_turn() -> None:
    struck = {strike.detail["point"] for strike in faults.draw(3, 100, ["crash_at"])}

    assert struck == {*FaultPoint}


@pytest.mark.parametrize("seed", range(5))
def test_every_script_can_be_played_and_writes_with_every_class(seed: int) -> None:
    drawn = shapes.draw(seed)

    assert len(load([shapes.scenarios(drawn)], shipped=False)) == len(drawn)
    for shape in drawn:
        writes = shapes.REVERSIBLE if shape.reversible else shapes.FINAL
        assert {tool for turn in shape.turns for tool in turn} == {*writes, "look_up"}
    assert sum(shape.reversible for shape in drawn) == 2


def test_an_armed_fault_point_strikes_one_process_once(tmp_path: Path) -> None:
    armory = Armory(tmp_path)
    armed = Armed(1, FaultPoint.AFTER_CLAIM, MODEL, "crash")
    armory.arm(armed)
    reach = (
        "from pathlib import Path; from holdfast_workers.chaos.armed import Armory; "
        f"from holdfast_activities.faults import FaultPoint; Armory(Path({str(tmp_path)!r}))"
        ".reached(FaultPoint.{}, 'model')"
    )

    ends = [
        subprocess.run([sys.executable, "-c", reach.format(point)], check=False).returncode
        for point in ("BEFORE_DISPATCH", "AFTER_CLAIM", "AFTER_CLAIM")
    ]

    assert ends == [0, -9, 0]
    assert armory.struck(armed)
