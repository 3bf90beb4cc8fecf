"""Running a test against a copy of the product, changed or not. The work tree itself is never touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from tests.mutants.catalogue import Mutant

ROOT = Path(__file__).parents[2]
PACKAGES = ("holdfast", "sagas", "ledger", "workflows", "activities", "workers", "cli", "examples", "tests")
ROOTS = (".", "sagas", "ledger", "workflows", "activities", "workers", "cli", "examples/travel")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "histories", ".*")
PATIENCE_S = 150
"""A mutant that hangs its test for so long is noticed too."""

Verdict = Literal["killed", "SURVIVED", "BROKEN"]


class OutOfDate(Exception):
    """A change's text does not stand exactly once in its file."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """`BROKEN`: the product did not even start, so that nothing was learnt about the test."""

    mutant: str
    verdict: Verdict
    seconds: float
    output: str


def changed(mutant: Mutant, root: Path = ROOT) -> dict[str, str]:
    """The mutant's files as they would be. Raises `OutOfDate`."""
    texts: dict[str, str] = {}
    for change in mutant.changes:
        text = texts.get(change.file) or (root / change.file).read_text(encoding="utf-8")
        found = text.count(change.old)
        if found != 1:
            raise OutOfDate(f"{mutant.name}: found {found} times in {change.file}: {change.old.strip()!r}")
        texts[change.file] = text.replace(change.old, change.new)
    return texts


@contextmanager
def copy_of_the_tree() -> Iterator[Path]:
    with TemporaryDirectory(prefix="holdfast-mutant-") as directory:
        copy = Path(directory)
        for name in PACKAGES:
            shutil.copytree(ROOT / name, copy / name, ignore=LEFT_OUT)
        shutil.copy(ROOT / "pyproject.toml", copy)
        yield copy


def run_tests(copy: Path, *tests: str, stop_at_first: bool = True) -> subprocess.CompletedProcess[str]:
    """pytest in the copy; its packages hide the installed ones."""
    path = os.pathsep.join(str(copy / root) for root in ROOTS)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    options = ["-q", "-p", "no:cacheprovider", "--no-header", *(["-x"] if stop_at_first else [])]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def judge(mutant: Mutant, copy: Path) -> Result:
    """Apply the mutant to the copy, run its test, and take it back."""
    texts = changed(mutant, copy)
    originals = {file: (copy / file).read_text(encoding="utf-8") for file in texts}
    began = time.monotonic()
    try:
        for file, text in texts.items():
            (copy / file).write_text(text, encoding="utf-8")
        done = run_tests(copy, mutant.test)
        verdict, output = _verdict(done), done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        verdict, output = "killed", "it hung"
    finally:
        for file, text in originals.items():
            (copy / file).write_text(text, encoding="utf-8")
    return Result(mutant=mutant.name, verdict=verdict, seconds=time.monotonic() - began, output=output)


def _verdict(done: subprocess.CompletedProcess[str]) -> Verdict:
    if done.returncode == 0:
        return "SURVIVED"
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    return "killed" if done.returncode == 1 and failed else "BROKEN"
