"""What one build of a worker has: its configuration, and the tools and sagas that this names."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from holdfast.config import Config
from holdfast.errors import DeclarationError
from holdfast_activities.tools.book import ToolBook
from holdfast_sagas import Registry
from holdfast_workers.config_file import load_config
from holdfast_workers.sagas import load_sagas
from holdfast_workers.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Build:
    config: Config
    directory: Path
    """Where the configuration lies."""
    book: ToolBook
    sagas: Registry

    def longest_tool(self) -> timedelta:
        """The longest timeout of a tool that an agent or a saga may use, its undo's included."""
        found = [timedelta(0)]
        for spec in self.config.agents.values():
            with contextlib.suppress(DeclarationError):  # its sessions are refused in words when they open
                resolved = self.book.resolve(spec)
                found += [card.timeout for card in (*resolved.tools, *resolved.compensations)]
        for card in (self.book.find(reference) for saga in self.sagas.sagas for reference in saga.references):
            undo = self.book.undo(self.book.tool(card))
            found += [card.timeout, undo.timeout if undo else timedelta(0)]
        return max(found)


def load_build(settings: Settings) -> Build:
    """Read the configuration and load what it names.

    Raises:
        ConfigError, DeclarationError: the configuration, or a saga of it, cannot be used.
    """
    config = load_config(settings.config)
    directory = settings.config.parent if settings.config else Path.cwd()
    book = ToolBook(config, directory)
    return Build(config=config, directory=directory, book=book, sagas=load_sagas(config, book))
