"""Every error Holdfast raises on purpose, in one tree.

    HoldfastError
    ├── DeclarationError          a tool, agent or policy that must not be registered
    ├── ToolError                 raised by tool authors
    │   ├── ToolRefused           declared clean failure: the effect did not happen and will not
    │   └── ToolUnavailable       declared clean failure: the effect did not happen, try again later
    └── EffectError               the effect protocol said no
        ├── EffectConflict        same effect, other arguments: a bug or a divergent replay
        └── HeadMissing           Postgres is older than the workflow that asks

A class's docstring is its default message.
"""

from __future__ import annotations

from datetime import timedelta


class HoldfastError(Exception):
    """Holdfast could not go on."""

    code = "internal"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__ or "")


class DeclarationError(HoldfastError):
    """This declaration cannot be registered."""

    code = "invalid"


class ToolError(HoldfastError):
    """The tool says that nothing happened."""


class ToolRefused(ToolError):
    """The service refused; nothing happened. The text reaches the model."""

    code = "permanent"


class ToolUnavailable(ToolError):
    """The service could not be reached; nothing happened, and a later attempt may work."""

    code = "transient"

    def __init__(self, message: str | None = None, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EffectError(HoldfastError):
    """The effect protocol refused this attempt."""


class EffectConflict(EffectError):
    """This effect was recorded with other arguments; running it again would be a different effect."""


class HeadMissing(EffectError):
    """The transcript this session stands on is not in Postgres: the database is older than the session."""
