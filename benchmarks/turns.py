"""`python -m benchmarks.turns`: measure, print a table, write `benchmarks/results.json`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from temporalio.service import RPCError

from benchmarks.place import stack
from benchmarks.results import Results, table
from benchmarks.rounds import Plan, measure
from holdfast.errors import HoldfastError
from holdfast_workers.stack.errors import StackError

OUTPUT = Path(__file__).with_name("results.json")
QUICK = Plan(rounds=1, sessions=15, turns=10, late_turn=40, pieces=50)
"""Under a minute: enough to see that it works, not to compare."""


async def run(plan: Plan) -> Results:
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as directory:
        os.chmod(directory, 0o755)  # as root, PostgreSQL runs as another user
        async with stack(Path(directory)) as place:
            return await measure(place, plan, lambda line: print(line, file=sys.stderr, flush=True))


def plan_of(options: argparse.Namespace) -> Plan:
    base = QUICK if options.quick else Plan()
    given = {name: getattr(options, name) for name in ("rounds", "sessions", "turns", "late_turn")}
    return Plan(**{**vars(base), **{name: value for name, value in given.items() if value is not None}})


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.turns", description="What a turn costs, beside a bare loop.")
    parser.add_argument("--quick", action="store_true", help="one small round, under a minute")
    parser.add_argument("--rounds", type=int, help="how often both sides run; the order alternates")
    parser.add_argument("--sessions", type=int, help="sessions at the same time in a burst")
    parser.add_argument("--turns", type=int, help="turns with a call in each session")
    parser.add_argument("--late-turn", type=int, help="the turn of a long session that is compared with turn 10")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the numbers go")
    options = parser.parse_args()
    try:
        found = asyncio.run(run(plan_of(options)))
    except (StackError, HoldfastError, RPCError) as error:  # a part did not start, or Ctrl-C stopped them all
        print(f"benchmark: not finished. {error}", file=sys.stderr)
        return 1
    options.output.write_text(found.model_dump_json(indent=2) + "\n")
    Console(width=120).print(table(found))
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a process that used a Temporal client can abort while Python exits (sdk-python issue 300)
