"""An agent with one tool of each tier, whose every run is noted where the tests can see it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from holdfast_workers.stack.servers import embedded_servers

Runs = Callable[[], list[str]]
Gate = Path
"""As long as this file exists, nothing is released."""

CONFIG = """
[agents.default]
tools = [
  "bench:look", "bench:glance", "bench:reserve", "bench:pay", "bench:lost", "bench:grant", "ask_human", "wait_until"
]

[agents.default.limits]
parallel_calls = 4
"""

TOOLS = '''
import asyncio
import os
from pathlib import Path

from holdfast import Idempotent, Operator, ToolContext, tool



def note(line):
    with Path(os.environ["BENCH_LOG"]).open("a") as log:
        log.write(line + "\\n")


@tool
async def look(what: str, seconds: float = 0) -> str:
    """Look at something."""
    note(f"look {what}")
    await asyncio.sleep(seconds)
    return f"{what} is fine"


@tool(inline=True, timeout="1s")
async def glance(what: str, hangs: bool = False) -> str:
    """Look at something quickly."""
    note(f"glance {what}")
    if hangs and not Path(os.environ["BENCH_LOG"] + ".hung").exists():
        Path(os.environ["BENCH_LOG"] + ".hung").touch()
        await asyncio.Event().wait()
    return f"{what} is fine"


@tool(tier="irreversible", recovery=Idempotent("24h"))
async def release(ctx: ToolContext, what: str) -> str:
    """Give a reservation back."""
    while Path(os.environ["BENCH_GATE"]).exists():
        await asyncio.sleep(0.02)
    note(f"release {what}")
    return f"{what} is free"


@tool(tier="reversible", recovery=Idempotent("24h"), undo=release, undo_args=lambda args, result: args)
async def reserve(ctx: ToolContext, what: str) -> str:
    """Reserve something."""
    note(f"reserve {what}")
    return f"{what} is reserved"


@tool(tier="irreversible", recovery=Idempotent("24h"))
async def pay(ctx: ToolContext, cents: int) -> str:
    """Pay."""
    note(f"pay {cents}")
    return f"paid {cents}"


@tool(tier="reversible", recovery=Operator(), undo=release, undo_args=lambda args, result: args)
async def lost(what: str) -> str:
    """Do something and lose the connection."""
    note(f"lost {what}")
    raise RuntimeError("the connection was lost")


@tool(tier="privileged", recovery=Operator())
async def grant(role: str) -> str:
    """Grant a role."""
    note(f"grant {role}")
    return role
'''


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("BENCH_LOG", str(tmp_path / "runs.log"))  # the module is imported once for all tests
    monkeypatch.setenv("BENCH_GATE", str(tmp_path / "gate"))
    (tmp_path / "bench.py").write_text(TOOLS)
    return CONFIG


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return tmp_path / "gate"


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """What the tools did, in order."""

    def read() -> list[str]:
        log = tmp_path / "runs.log"
        return log.read_text().splitlines() if log.exists() else []

    return read


@pytest.fixture(scope="session")
async def impatient_temporal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Address of a server that suggests to continue as new after 50 events."""
    low = ("--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=50")
    async with embedded_servers(tmp_path_factory.mktemp("low"), temporal_args=low) as small:
        yield small.temporal_address
