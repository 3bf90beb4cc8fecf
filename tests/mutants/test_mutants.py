"""The mutants themselves: their patches fit the product, and `make mutants` can tell dead from alive."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.mutants.catalogue import MUTANTS, Change, Mutant
from tests.mutants.running import ROOT, OutOfDate, Result, changed, copy_of_the_tree, judge

SLICE = ("a lost attempt is not in doubt", "a record goes by effect, not by token")
HARMLESS = Mutant(
    "a comment is added",
    "tests/protocol/test_stalls.py::test_a_workers_clock_an_hour_off_changes_no_lease",
    (Change("activities/holdfast_activities/execute_call.py", "import time\n", "import time  # of this worker\n"),),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[each.name for each in MUTANTS])
def test_a_mutants_patch_applies_and_its_test_exists(mutant: Mutant) -> None:
    for file, text in changed(mutant).items():
        assert text != (ROOT / file).read_text(encoding="utf-8")
    file, _, name = mutant.test.partition("::")
    assert re.search(rf"^(async )?def {re.escape(name)}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_there_are_at_least_twenty_and_none_twice() -> None:
    assert len({each.name for each in MUTANTS}) == len(MUTANTS) >= 20


def test_a_patch_that_no_longer_applies_is_an_error() -> None:
    stale = Mutant("stale", "", (Change("pyproject.toml", "no such text", ""),))

    with pytest.raises(OutOfDate, match=r"found 0 times in pyproject.toml"):
        changed(stale)


@pytest.mark.timeout(180)
def test_mutants_of_a_slice_are_killed_and_a_harmless_change_survives() -> None:
    mutants = [*(each for each in MUTANTS if each.name in SLICE), HARMLESS]

    def judged(mutant: Mutant) -> Result:
        with copy_of_the_tree() as copy:
            return judge(mutant, copy)

    with ThreadPoolExecutor(len(mutants)) as slots:
        results = list(slots.map(judged, mutants))

    verdicts = {each.mutant: each.verdict for each in results}
    expected = {**dict.fromkeys(SLICE, "killed"), HARMLESS.name: "SURVIVED"}
    assert verdicts == expected, "\n".join(each.output[-1500:] for each in results)
