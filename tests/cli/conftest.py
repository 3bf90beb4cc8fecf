"""The command in this process and in one of its own, against a house of real servers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from holdfast_cli.main import run
from holdfast_workers.settings import Settings
from tests.conftest import House, OpenHouse

CONFIG = """
[agents.default]
tools = ["list_files", "read_file", "write_file", "ask_human", "wait_until"]

[agents.default.policy]
ask = ["write_file"]
"""


@dataclass(frozen=True, kw_only=True)
class Done:
    """How one command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


async def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> Done:
    """Run one command line in this process."""
    capsys.readouterr()
    code = await asyncio.to_thread(run, arguments)
    said = capsys.readouterr()
    return Done(code=code, out=said.out, err=said.err)


@dataclass(frozen=True)
class Cli:
    """`await cli("session", "list")`: one command line."""

    house: House
    capsys: pytest.CaptureFixture[str]

    async def __call__(self, *arguments: str) -> Done:
        return await command(self.capsys, *arguments)

    @asynccontextmanager
    async def process(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """The same in a process of its own; killed with the block if it still runs."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "holdfast_cli",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def waiting_session(self) -> str:
        """A session whose call 1.1, a write, waits for a person."""
        begun = await self("start", "Write file notes.txt saying Buy milk", "-q")
        session_id = begun.out.strip()
        await self.house.until_asked(session_id)
        return session_id


class Placed(Protocol):
    """Any house."""

    @property
    def settings(self) -> Settings: ...


def point_at(house: Placed, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command find this house by its environment, and nothing else."""
    for name in list(os.environ):
        if name.startswith(("HOLDFAST_", "TEMPORAL_", "PG", "OTEL_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    found = {
        "HOLDFAST_HOME": str(home),
        "HOLDFAST_DSN": house.settings.dsn or "",
        "HOLDFAST_TASK_QUEUE": house.settings.task_queue,
        "TEMPORAL_ADDRESS": house.settings.temporal.address or "",
        "TEMPORAL_CONFIG_FILE": os.devnull,
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(home)


@pytest.fixture
async def cli(
    open_house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Cli]:
    """The command, with a worker and the scripted model's shipped scenarios behind it."""
    async with open_house(config=CONFIG) as house:
        point_at(house, tmp_path, monkeypatch)
        yield Cli(house, capsys)


@pytest.fixture
async def idle_cli(
    open_house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Cli]:
    """The command without any worker."""
    async with open_house(config=CONFIG, work=False) as house:
        point_at(house, tmp_path, monkeypatch)
        yield Cli(house, capsys)
