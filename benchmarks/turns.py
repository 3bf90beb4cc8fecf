"""`python -m benchmarks.turns`: measure, print tables, write `results.json`, plots, and tables into the docs."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from temporalio.service import RPCError

from benchmarks import plots
from benchmarks.long_session import write_turns
from benchmarks.place import stack
from benchmarks.results import Results
from benchmarks.rounds import Found, Plan, measure
from benchmarks.tables import documented, grids, markdown, note
from holdfast.errors import HoldfastError
from holdfast_workers.stack.errors import StackError

OUTPUT = Path(__file__).with_name("results.json")
TURNS = Path(__file__).with_name("turns.csv")
DOCS = Path(__file__).parent.parent / "docs"
QUICK = Plan(rounds=1, sessions=15, turns=10, alone=1, settle_s=0, late_turn=40, idle_sessions=50, pieces=50)
"""Under a minute: enough to see that it works, not to compare."""
CHOSEN = ("rounds", "sessions", "turns", "late_turn", "idle_sessions")


async def run(plan: Plan) -> Found:
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as directory:
        os.chmod(directory, 0o755)  # as root, PostgreSQL runs as another user
        async with stack(Path(directory)) as place:
            return await measure(place, plan, lambda line: print(line, file=sys.stderr, flush=True))


def plan_of(options: argparse.Namespace) -> Plan:
    given = {name: getattr(options, name) for name in CHOSEN if getattr(options, name) is not None}
    return replace(QUICK if options.quick else Plan(), **given)


def publish(found: Found, docs: Path) -> None:
    """Draw the plots and put the tables into the document."""
    plots.draw(found.long, docs / "images")
    document = docs / "performance.md"
    document.write_text(documented(document.read_text(), found.results))


def show(found: Results) -> None:
    console = Console(width=190)
    for grid in grids(found):
        console.print(grid.shown())
    console.print(note(found))


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.turns", description="What a turn costs, beside a bare loop.")
    parser.add_argument("--quick", action="store_true", help="one small round, under a minute; writes no file")
    parser.add_argument("--rounds", type=int, help="how often all sides run; the order alternates")
    parser.add_argument("--sessions", type=int, help="sessions at the same time in a burst")
    parser.add_argument("--turns", type=int, help="turns with a call in each session")
    parser.add_argument("--late-turn", type=int, help="the turn of the long sessions that is compared with turn 10")
    parser.add_argument("--idle-sessions", type=int, help="sessions that wait while memory is measured")
    parser.add_argument("--output", type=Path, help=f"where the numbers go; {OUTPUT.name} beside this file")
    parser.add_argument("--docs", type=Path, help="whose performance.md and images are written; docs/")
    parser.add_argument("--markdown", action="store_true", help="measure nothing: print the last run's tables")
    return parser.parse_args(arguments)


def main() -> int:
    options = options_of()
    output = options.output or (None if options.quick else OUTPUT)
    if options.markdown:
        print(markdown(Results.model_validate_json((options.output or OUTPUT).read_text())))
        return 0
    try:
        found = asyncio.run(run(plan_of(options)))
    except (StackError, HoldfastError, RPCError) as error:  # a part did not start, or Ctrl-C stopped them all
        print(f"benchmark: not finished. {error}", file=sys.stderr)
        return 1
    show(found.results)
    if output is not None:
        output.write_text(found.results.model_dump_json(indent=2) + "\n")
        write_turns(found.long.values(), output.with_name(TURNS.name))
    if docs := options.docs or (None if options.quick else DOCS):
        publish(found, docs)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a process that used a Temporal client can abort while Python exits (sdk-python issue 300)
