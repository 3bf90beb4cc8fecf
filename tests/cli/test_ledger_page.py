"""docs/ledger.md: what it tells a reader to do is done here, line by line, without a stack of its own."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_ledger.signing import new_key
from tests.cli.conftest import Cli
from tests.docs.documents import ROOT, blocks

PAGE = Path("docs/ledger.md")
HERE = "tests/cli/test_ledger_page.py::test_a_reader_can_do_what_the_page_on_the_ledger_says"


def lines() -> Iterator[str]:
    """The commands of the page that name this test, in their order."""
    for block in blocks(PAGE):
        if block.argument == HERE:
            yield from block.text.splitlines()


def write(file: Path, text: str) -> None:
    file.write_text(text)


async def done(cli: Cli, line: str) -> tuple[int, str]:
    """Exit code and what was said. Our own commands run in this process, the others as they stand."""
    words = shlex.split(line, comments=True)
    if words[0] != "holdfast":
        ran = await asyncio.to_thread(
            subprocess.run, ["bash", "-c", line], capture_output=True, text=True, check=False
        )
        return ran.returncode, ran.stdout + ran.stderr
    command, _, file = line.partition(" > ")
    said = await cli(*shlex.split(command, comments=True)[1:])
    if file:
        write(Path(file), said.out)
    return said.code, said.out + said.err


async def test_a_reader_can_do_what_the_page_on_the_ledger_says(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key.pem").write_text(new_key())
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.setenv("HOLDFAST_CHECKPOINT_KEY", str(tmp_path / "key.pem"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    up, *rest = lines()
    assert up == "holdfast up --detach"  # the house stands already

    assert len(rest) == 13
    for line in rest:
        code, said = await done(cli, line)
        edited = line.startswith("python") and "edited.jsonl" in line
        assert code == (1 if edited else 0), f"{line}: {said}"
