"""`make mutants`: every mutant against the test that must notice it. Exits 1 if one survives or is out of date."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from tests.mutants.catalogue import MUTANTS, Mutant
from tests.mutants.running import OutOfDate, Result, changed, copy_of_the_tree, judge, run_tests


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("words", nargs="*", help="only mutants whose name has one of these words")
    parser.add_argument("--at-once", type=int, default=min(4, os.cpu_count() or 1))
    asked = parser.parse_args()
    chosen = [each for each in MUTANTS if not asked.words or any(word in each.name for word in asked.words)]
    out_of_date = [str(error) for each in chosen if (error := _error(each))]
    if out_of_date or not chosen:
        print("\n".join(out_of_date) or "There is no such mutant.")
        return 1
    if failing := _fails_unchanged(chosen):
        print(f"The tests fail without any mutant:\n{failing}")
        return 1
    results = _judge_all(chosen, asked.at_once)
    alive = [each for each in results if each.verdict != "killed"]
    for each in alive:
        print(f"\n{each.mutant}: {each.verdict}\n{each.output[-1500:]}")
    print(f"\n{len(results) - len(alive)} of {len(results)} mutants killed")
    return 1 if alive else 0


def _error(mutant: Mutant) -> OutOfDate | None:
    try:
        changed(mutant)
    except OutOfDate as error:
        return error
    return None


def _fails_unchanged(mutants: Sequence[Mutant]) -> str:
    """A test that fails anyway would prove nothing."""
    with copy_of_the_tree() as copy:
        done = run_tests(copy, *sorted({each.test for each in mutants}), stop_at_first=False)
    return "" if done.returncode == 0 else done.stdout[-3000:]


def _judge_all(mutants: Sequence[Mutant], at_once: int) -> list[Result]:
    waiting: SimpleQueue[Mutant | None] = SimpleQueue()
    for mutant in (*mutants, *[None] * at_once):
        waiting.put(mutant)
    width = max(len(each.name) for each in mutants)
    tests = {each.name: each.test for each in mutants}

    def work(_: int) -> list[Result]:
        results = []
        with copy_of_the_tree() as copy:
            while (mutant := waiting.get()) is not None:
                result = judge(mutant, copy)
                print(
                    f"{result.verdict:9}{result.seconds:5.1f} s  {mutant.name:{width}}  {tests[mutant.name]}",
                    flush=True,
                )
                results.append(result)
        return results

    with ThreadPoolExecutor(at_once) as slots:
        return [result for results in slots.map(work, range(at_once)) for result in results]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.TimeoutExpired:
        sys.exit("the tests do not even end without a mutant")
