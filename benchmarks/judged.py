"""A benchmark with bars, as a command: prints its table, keeps its numbers, and names the bars it missed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

from rich.console import Console
from rich.table import Table
from temporalio.service import RPCError

from benchmarks.one_worker import Stalled
from holdfast.errors import HoldfastError
from holdfast_workers.stack.errors import StackError


class Judged(Protocol):
    @property
    def missed(self) -> list[str]: ...

    def model_dump_json(self, *, indent: int | None = None) -> str: ...


Found = TypeVar("Found", bound=Judged)


def judge(
    name: str, measuring: Coroutine[Any, Any, Found], *, output: Path, table: Callable[[Found], Table]
) -> NoReturn:
    """Measure, write `output`, and leave: with 1 where a bar was missed or the run did not finish."""
    code = _judged(name, measuring, output, table)
    sys.stdout.flush()
    os._exit(code)  # a process that used a Temporal client can abort while Python exits (sdk-python issue 300)


def _judged(name: str, measuring: Coroutine[Any, Any, Found], output: Path, table: Callable[[Found], Table]) -> int:
    try:
        found = asyncio.run(measuring)
    except (StackError, HoldfastError, RPCError, Stalled) as error:
        print(f"{name}: not finished. {error}", file=sys.stderr)
        return 1
    output.write_text(found.model_dump_json(indent=2) + "\n")
    Console(width=120).print(table(found))
    for bar in found.missed:
        print(f"missed: {bar}", file=sys.stderr)
    return 1 if found.missed else 0
