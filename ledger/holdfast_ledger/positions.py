"""Where an entry stands among those of all sessions: by when it was written, then by session and number.

Its text is a cursor: what was read up to, to go on from. It names one entry and holds nothing else, so it stays
good for ever, on a restored database too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID

from holdfast_ledger.errors import LedgerError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = UUID(int=0)


class BadCursor(LedgerError):
    """This is no cursor; `cursor` of an entry is one."""

    code = "invalid"


@dataclass(frozen=True, order=True)
class Position:
    """`recorded_at` is on the database's clock."""

    recorded_at: datetime
    session_key: UUID = _FIRST
    seq: int = 0

    def __str__(self) -> str:
        return f"{(self.recorded_at - _EPOCH) // timedelta(microseconds=1)}.{self.session_key}.{self.seq}"

    @classmethod
    def read(cls, cursor: str) -> Self:
        """Raises `BadCursor`."""
        try:
            micros, key, seq = cursor.strip().split(".")
            return cls(_EPOCH + timedelta(microseconds=int(micros)), UUID(key), int(seq))
        except (ValueError, OverflowError) as error:
            raise BadCursor(f"`{cursor}` is no cursor; give the `cursor` of an entry.") from error


BEGINNING = Position(_EPOCH)
