"""How long a worker in this process takes to build each request, and until its answer is whole.

Read off the functions that do it: nothing of the product knows that it is timed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from unittest.mock import patch

from benchmarks import bare_worker
from holdfast_activities import turn_attempt
from holdfast_activities.messages_api.counting import TokenCounter

SHORTER = "-shorter"
"""Ends the key of a turn's second request, where its first was refused as too long."""


@dataclass(frozen=True)
class Asking:
    """A turn's model call, all attempts. `build_s`: until the request stood. `ask_s`: for all the provider did."""

    build_s: float
    ask_s: float


@dataclass
class Stopwatch:
    turns: dict[str, Asking] = field(default_factory=dict)
    """By idempotency key, in order."""
    _build_s: float = 0.0
    _ask_s: float = 0.0

    def built(self, seconds: float) -> None:
        self._build_s += seconds

    def counted(self, seconds: float) -> None:
        self._ask_s += seconds

    def answered(self, key: str, seconds: float) -> None:
        key = key.removesuffix(SHORTER)
        before = self.turns.get(key, Asking(0, 0))
        self.turns[key] = Asking(before.build_s + self._build_s, before.ask_s + self._ask_s + seconds)
        self._build_s = self._ask_s = 0


@contextmanager
def timing_holdfast() -> Iterator[Stopwatch]:
    """Times the model calls made inside the block, of one session."""
    with _timing(turn_attempt, "build_request") as watch:
        yield watch


@contextmanager
def timing_bare() -> Iterator[Stopwatch]:
    with _timing(bare_worker, "request") as watch:
        yield watch


@contextmanager
def _timing(module: ModuleType, builder: str) -> Iterator[Stopwatch]:
    build, read, count = getattr(module, builder), module.read_answer, TokenCounter.count
    watch = Stopwatch()

    def timed_build(*args: Any, **options: Any) -> Any:
        began = time.perf_counter()
        built = build(*args, **options)
        watch.built(time.perf_counter() - began)
        return built

    async def timed_count(*args: Any) -> int | None:
        began = time.perf_counter()
        counted = await count(*args)
        watch.counted(time.perf_counter() - began)
        return counted

    async def timed_read(*args: Any, idempotency_key: str, **options: Any) -> None:
        began = time.perf_counter()
        try:
            await read(*args, idempotency_key=idempotency_key, **options)
        finally:
            watch.answered(idempotency_key, time.perf_counter() - began)

    with (
        patch.object(module, builder, timed_build),
        patch.object(module, "read_answer", timed_read),
        patch.object(TokenCounter, "count", timed_count),
    ):
        yield watch
