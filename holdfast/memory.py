"""What of a long conversation a model is sent: `[agents.NAME.memory]` of holdfast.toml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from holdfast.wire import Declared

Strategy = Literal["full", "window", "prune_results", "summarise", "api"]


class Memory(Declared):
    """Room is made where the API counts more than `above` tokens, in a turn or in what would be sent, and in steps:
    what is sent before and after a step begins with the same bytes every time, so that the provider's prompt cache
    holds."""

    strategy: Strategy = "full"
    """`full`: everything. `window`: the newest part. `prune_results`: everything, old tool results as stubs that
    `read_result` can follow. `summarise`: a summary, a turn of its own, and what came after it. `api`: the Messages
    API's own context management, as `edits` say."""
    above: int = Field(default=150_000, ge=1)
    """Tokens of one turn, input and output, as the API counted them."""
    down_to: int = Field(default=75_000, ge=0)
    """Tokens of the newest messages that a step leaves as they are; never less than the open exchange."""
    model: str | None = None
    """With `summarise`: who writes the summary, where a cheaper model will do."""
    edits: tuple[Mapping[str, Any], ...] = ()
    """With `api`: the `edits` of `context_management`; empty: old tool uses are cleared above `above` tokens."""

    @model_validator(mode="after")
    def _steps_make_room(self) -> Memory:
        if self.down_to >= self.above:
            raise ValueError(f"`down_to` ({self.down_to}) must be below `above` ({self.above}) to make any room")
        return self
