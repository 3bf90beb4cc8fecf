"""What one command line works with: its flags, and from them the settings, the output and the connections.

Each part is made when it is first asked for, so that a command pays only for what it uses.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote

from holdfast_cli.output import Output

if TYPE_CHECKING:
    from holdfast_ledger.store import Ledger
    from holdfast_workers.client import Holdfast
    from holdfast_workers.settings import Settings

T = TypeVar("T")


@dataclass
class Flags:
    """The options that every command takes; None where not given."""

    profile: str | None = None
    address: str | None = None
    namespace: str | None = None
    dsn: str | None = None
    home: str | None = None
    config: str | None = None
    output: Literal["text", "json", "jsonl"] = "text"
    quiet: bool = False
    debug: bool = False


@dataclass
class App:
    """One command line."""

    flags: Flags = field(default_factory=Flags)

    @cached_property
    def settings(self) -> Settings:
        from holdfast_workers.settings import Settings

        flags = self.flags
        return Settings.load(
            os.environ,
            home=Path(flags.home).expanduser().resolve() if flags.home else None,
            config=Path(flags.config) if flags.config else None,
            profile=flags.profile,
            address=flags.address,
            namespace=flags.namespace,
            dsn=flags.dsn,
        )

    @cached_property
    def out(self) -> Output:
        return Output(self.flags.output, quiet=self.flags.quiet)

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[Ledger]:
        """Postgres alone: for what can be read while Temporal is away."""
        from holdfast_workers.client import connect_ledger

        ledger = await connect_ledger(self.settings)
        try:
            yield ledger
        finally:
            await ledger.close()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Holdfast]:
        """Temporal and Postgres."""
        from holdfast_workers.client import Holdfast
        from holdfast_workers.temporal import silent_runtime

        async with await Holdfast.connect(self.settings, runtime=silent_runtime()) as client:
            yield client

    def ui_of(self, session_id: str) -> str | None:
        """The session's address in Temporal's UI, where one is known."""
        if self.settings.ui_url is None:
            return None
        namespace = self.settings.temporal.namespace or "default"
        return f"{self.settings.ui_url.rstrip('/')}/namespaces/{namespace}/workflows/{quote(session_id, safe='')}"

    def again(self, command: str) -> str:
        """A command line as this person would type it: with the flags that say where the servers are."""
        flags = self.flags
        given = {
            "profile": flags.profile,
            "address": flags.address,
            "namespace": flags.namespace,
            "home": flags.home,
        }
        where = "".join(f" --{name} {shlex.quote(value)}" for name, value in given.items() if value)
        return f"holdfast {command}{where}"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a command's work to its end. Ctrl-C cancels it and raises `KeyboardInterrupt`."""
        return asyncio.run(work)
